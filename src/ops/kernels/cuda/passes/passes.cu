// Operations on maps [rows, channels] and on parameters in one pass over memory each, for NVIDIA GPUs.
//
// A kernel is a function of the number of a thread. The device runs it for all numbers at once; the tests compile this file as C for the
// processor and run it for one number after the other. Both give the same bits: no thread reads what another one writes or waits for
// it, sums have an order of their own, and products are not fused with additions (--fmad=false, -ffp-contract=off).
//
// The host's side, with the meaning of every argument, is in mod.rs.

typedef unsigned int u32;
typedef unsigned short u16;

// Same as `Arguments` in mod.rs.
typedef struct {
    const void *in[8];
    void *out[4];
    u32 numbers[8];
    float reals[12];
} Arguments;

// Places in `numbers`.
enum {
    CHANNELS, // of a row; `WIDTH` values of it are one thread's
    WIDTH,    // 4, or 1 where rows or addresses are no multiples of 4 values
    ROWS,     // that are added up
    PARTS,    // sums of a channel, each over every PARTS-th row
    FLAGS,    // bits below
    KIND,     // of sums
};

// Bits of FLAGS.
enum { HALF_INPUT = 1, HALF_SECOND = 2, HALF_OUTPUT = 4, RELU = 8, LAST = 16, NESTEROV = 32 };

// Values of KIND.
enum { PLAIN, SQUARES, GRADIENT };

// Rows that are added up in single precision before their sum is added to one in double precision.
enum { CHAIN = 8 };

#ifdef __CUDACC__

#define DEVICE static __device__ __forceinline__
#define KERNEL(name)                                                                                                                     \
    DEVICE void name##_thread(const Arguments *a, u32 thread);                                                                           \
    extern "C" __global__ void name(const Arguments a, u32 threads) {                                                                    \
        u32 thread = blockIdx.x * blockDim.x + threadIdx.x;                                                                              \
        if (thread < threads) name##_thread(&a, thread);                                                                                 \
    }                                                                                                                                    \
    DEVICE void name##_thread(const Arguments *a, u32 thread)
#define UNROLL _Pragma("unroll")

DEVICE float float_of(u32 bits) { return __uint_as_float(bits); }
DEVICE u32 bits_of(float value) { return __float_as_uint(value); }
DEVICE float root(float value) { return sqrtf(value); }

#else

#include <math.h>
#include <string.h>

#define DEVICE static inline
#define KERNEL(name)                                                                                                                     \
    DEVICE void name##_thread(const Arguments *a, u32 thread);                                                                           \
    void name(const Arguments *a, u32 threads) {                                                                                         \
        for (u32 thread = 0; thread < threads; thread++) name##_thread(a, thread);                                                       \
    }                                                                                                                                    \
    DEVICE void name##_thread(const Arguments *a, u32 thread)
#define UNROLL

typedef struct { float x, y, z, w; } float4;
typedef struct { u32 x, y; } uint2;

DEVICE float float_of(u32 bits) { float value; memcpy(&value, &bits, 4); return value; }
DEVICE u32 bits_of(float value) { u32 bits; memcpy(&bits, &value, 4); return bits; }
DEVICE float root(float value) { return sqrtf(value); }

#endif

// A bfloat16 is the upper half of a float.
DEVICE float of_half(u32 half) { return float_of(half << 16); }

// To the nearest bfloat16, of two equally near ones the even; NaN stays NaN.
DEVICE u32 to_half(float value) {
    u32 bits = bits_of(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits >> 16) | 0x40u;
    return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

// The `width` values of group number `group`, 4 or 1.
DEVICE void read(const void *from, u32 half, u32 group, u32 width, float *values) {
    if (width == 4 && half) {
        uint2 pairs = ((const uint2 *)from)[group];
        values[0] = of_half(pairs.x & 0xffffu);
        values[1] = of_half(pairs.x >> 16);
        values[2] = of_half(pairs.y & 0xffffu);
        values[3] = of_half(pairs.y >> 16);
    } else if (width == 4) {
        float4 four = ((const float4 *)from)[group];
        values[0] = four.x;
        values[1] = four.y;
        values[2] = four.z;
        values[3] = four.w;
    } else {
        values[0] = half ? of_half(((const u16 *)from)[group]) : ((const float *)from)[group];
    }
}

DEVICE void write(void *to, u32 half, u32 group, u32 width, const float *values) {
    if (width == 4 && half) {
        uint2 pairs;
        pairs.x = to_half(values[0]) | to_half(values[1]) << 16;
        pairs.y = to_half(values[2]) | to_half(values[3]) << 16;
        ((uint2 *)to)[group] = pairs;
    } else if (width == 4) {
        float4 four;
        four.x = values[0];
        four.y = values[1];
        four.z = values[2];
        four.w = values[3];
        ((float4 *)to)[group] = four;
    } else if (half) {
        ((u16 *)to)[group] = (u16)to_half(values[0]);
    } else {
        ((float *)to)[group] = values[0];
    }
}

// 0 where negative; NaN stays, so that a broken computation is seen.
DEVICE float rectified(float value) { return value < 0.0f ? 0.0f : value; }

// 1 / sqrt(variance + epsilon)
DEVICE float inverse_deviation(float variance, float epsilon) { return 1.0f / root(variance + epsilon); }

// What a batch norm multiplies the distance from the mean by; 1 without variance.
DEVICE float scale_of(const float *variance, const float *gamma, float epsilon, u32 channel) {
    if (!variance) return 1.0f;
    float inverse = inverse_deviation(variance[channel], epsilon);
    return gamma ? gamma[channel] * inverse : inverse;
}

// What a batch norm makes of a value before its ReLU. Forwards and backwards have the same bits, so that they agree on the ReLU's mask.
DEVICE float normal(float value, float mean, float scale, const float *shift, u32 channel) {
    float scaled = (value - mean) * scale;
    return shift ? scaled + shift[channel] : scaled;
}

// out = (in - mean) * gamma / sqrt(variance + epsilon) + shift + addend, and its ReLU. All but `in` may be absent: the end of a convolution, an
// addition, a ReLU and a batch norm by given statistics are all this.
// in: maps, mean [channels], variance [channels], gamma [channels], shift [channels], addend like the maps. out: maps. reals: epsilon.
DEVICE void affine_of(const Arguments *a, u32 thread, u32 width) {
    u32 flags = a->numbers[FLAGS], channel = thread % (a->numbers[CHANNELS] / width) * width;
    const float *mean = (const float *)a->in[1], *variance = (const float *)a->in[2], *gamma = (const float *)a->in[3];
    const float *shift = (const float *)a->in[4];
    float values[4], more[4];
    read(a->in[0], flags & HALF_INPUT, thread, width, values);
    if (a->in[5]) read(a->in[5], flags & HALF_SECOND, thread, width, more);
    UNROLL
    for (u32 k = 0; k < width; k++) {
        u32 c = channel + k;
        float value = values[k];
        if (mean) value = normal(value, mean[c], scale_of(variance, gamma, a->reals[0], c), shift, c);
        else if (shift) value = value + shift[c];
        if (a->in[5]) value = value + more[k];
        values[k] = flags & RELU ? rectified(value) : value;
    }
    write(a->out[0], flags & HALF_OUTPUT, thread, width, values);
}
KERNEL(affine) {
    if (a->numbers[WIDTH] == 4) affine_of(a, thread, 4);
    else affine_of(a, thread, 1);
}

// The gradient where the ReLU's output is above 0, else 0.
// in: output, gradient. out: gradient of the ReLU's input.
DEVICE void mask_of(const Arguments *a, u32 thread, u32 width) {
    u32 flags = a->numbers[FLAGS];
    float output[4], gradient[4];
    read(a->in[0], flags & HALF_INPUT, thread, width, output);
    read(a->in[1], flags & HALF_SECOND, thread, width, gradient);
    UNROLL
    for (u32 k = 0; k < width; k++) gradient[k] = output[k] > 0.0f ? gradient[k] : 0.0f;
    write(a->out[0], flags & HALF_OUTPUT, thread, width, gradient);
}
KERNEL(mask) {
    if (a->numbers[WIDTH] == 4) mask_of(a, thread, 4);
    else mask_of(a, thread, 1);
}

// Sums over rows, first half: PARTS sums of each channel, which `total` adds up.
// KIND PLAIN: of the maps. SQUARES: of their squared distances from the mean. GRADIENT: of the gradient (with RELU where the batch norm
// is above 0 only), and of its products with distances from the mean.
// in: maps, mean [channels], gradient like the maps, variance [channels], gamma [channels] or none, shift [channels] or none.
// out: doubles [parts, channels], of GRADIENT [parts, 2 * channels]. reals: epsilon.
DEVICE void sums_of(const Arguments *a, u32 thread, u32 width) {
    u32 flags = a->numbers[FLAGS], kind = a->numbers[KIND], channels = a->numbers[CHANNELS];
    u32 groups = channels / width, parts = a->numbers[PARTS], rows = a->numbers[ROWS];
    u32 group = thread % groups, part = thread / groups, channel = group * width;
    const float *means = (const float *)a->in[1], *variance = (const float *)a->in[3], *gamma = (const float *)a->in[4];
    const float *shift = (const float *)a->in[5];
    float mean[4], scale[4];
    UNROLL
    for (u32 k = 0; k < width; k++) {
        mean[k] = kind == PLAIN ? 0.0f : means[channel + k];
        scale[k] = flags & RELU ? scale_of(variance, gamma, a->reals[0], channel + k) : 1.0f;
    }
    double first[4] = {0.0, 0.0, 0.0, 0.0}, second[4] = {0.0, 0.0, 0.0, 0.0};
    u32 row = part;
    while (row < rows) {
        float first_chain[4] = {0.0f, 0.0f, 0.0f, 0.0f}, second_chain[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        UNROLL
        for (u32 link = 0; link < CHAIN; link++) {
            if (row < rows) {
                float values[4], gradient[4];
                read(a->in[0], flags & HALF_INPUT, row * groups + group, width, values);
                if (kind == GRADIENT) read(a->in[2], flags & HALF_SECOND, row * groups + group, width, gradient);
                UNROLL
                for (u32 k = 0; k < width; k++) {
                    if (kind == PLAIN) {
                        first_chain[k] += values[k];
                    } else if (kind == SQUARES) {
                        float distance = values[k] - mean[k];
                        first_chain[k] += distance * distance;
                    } else {
                        float g = gradient[k];
                        if (flags & RELU) g = normal(values[k], mean[k], scale[k], shift, channel + k) > 0.0f ? g : 0.0f;
                        first_chain[k] += g;
                        second_chain[k] += g * (values[k] - mean[k]);
                    }
                }
            }
            row += parts;
        }
        UNROLL
        for (u32 k = 0; k < width; k++) {
            first[k] += (double)first_chain[k];
            second[k] += (double)second_chain[k];
        }
    }
    u32 columns = kind == GRADIENT ? 2 * channels : channels;
    double *to = (double *)a->out[0] + part * columns + channel;
    UNROLL
    for (u32 k = 0; k < width; k++) {
        to[k] = first[k];
        if (kind == GRADIENT) to[channels + k] = second[k];
    }
}
KERNEL(sums) {
    if (a->numbers[WIDTH] == 4) sums_of(a, thread, 4);
    else sums_of(a, thread, 1);
}

// Sums over rows, second half: PARTS sums of each channel of the ROWS that there are. With LAST there is one, divided, as a float; of KIND
// GRADIENT there are two, and a third: that of the products by the deviation, which is the gradient of gamma.
// in: doubles [rows, channels], of GRADIENT variance [channels / 2]. out: doubles [parts, channels], or floats [channels], of GRADIENT three
// times floats [channels / 2]. reals: the divisor, epsilon.
KERNEL(total) {
    u32 channels = a->numbers[CHANNELS], parts = a->numbers[PARTS], rows = a->numbers[ROWS], half = channels / 2;
    u32 channel = thread % channels, part = thread / channels;
    const double *from = (const double *)a->in[0];
    double sum = 0.0;
    for (u32 row = part; row < rows; row += parts) sum += from[row * channels + channel];
    if (!(a->numbers[FLAGS] & LAST)) {
        ((double *)a->out[0])[thread] = sum;
    } else if (a->numbers[KIND] != GRADIENT) {
        ((float *)a->out[0])[channel] = (float)(sum / (double)a->reals[0]);
    } else if (channel < half) {
        ((float *)a->out[0])[channel] = (float)sum;
    } else {
        float centred = (float)sum, variance = ((const float *)a->in[1])[channel - half];
        ((float *)a->out[1])[channel - half] = centred;
        ((float *)a->out[2])[channel - half] = centred * inverse_deviation(variance, a->reals[1]);
    }
}

// The gradient of a batch norm's input: scale * (g - plain / n - (in - mean) * centred / (n (variance + epsilon))), g being the gradient, with
// RELU where the batch norm is above 0 only; scale * g where the statistics are constants.
// in: maps, mean [channels], gradient like the maps, variance [channels], gamma [channels] or none, shift [channels] or none, sums of g and of
// g (in - mean) [channels] or none. out: maps. reals: epsilon, n.
DEVICE void input_gradient_of(const Arguments *a, u32 thread, u32 width) {
    u32 flags = a->numbers[FLAGS], channel = thread % (a->numbers[CHANNELS] / width) * width;
    const float *mean = (const float *)a->in[1], *variance = (const float *)a->in[3], *gamma = (const float *)a->in[4];
    const float *shift = (const float *)a->in[5], *plain = (const float *)a->in[6], *centred = (const float *)a->in[7];
    float values[4], gradient[4], epsilon = a->reals[0], rows = a->reals[1];
    read(a->in[0], flags & HALF_INPUT, thread, width, values);
    read(a->in[2], flags & HALF_SECOND, thread, width, gradient);
    UNROLL
    for (u32 k = 0; k < width; k++) {
        u32 c = channel + k;
        float g = gradient[k], scale = scale_of(variance, gamma, epsilon, c);
        if (flags & RELU) g = normal(values[k], mean[c], scale, shift, c) > 0.0f ? g : 0.0f;
        if (plain) {
            float inverse = inverse_deviation(variance[c], epsilon);
            g = (g - plain[c] / rows) - (values[k] - mean[c]) * (centred[c] * (inverse * inverse) / rows);
        }
        gradient[k] = g * scale;
    }
    write(a->out[0], flags & HALF_OUTPUT, thread, width, gradient);
}
KERNEL(input_gradient) {
    if (a->numbers[WIDTH] == 4) input_gradient_of(a, thread, 4);
    else input_gradient_of(a, thread, 1);
}

// Moving statistics: keep * old + rest * new; a thread has one channel.
// in: old mean, old variance, mean, variance, [channels] each. out: mean, variance. reals: keep, rest of the mean, rest of the variance.
KERNEL(moved) {
    for (u32 k = 0; k < 2; k++) {
        float old = ((const float *)a->in[k])[thread], value = ((const float *)a->in[2 + k])[thread];
        ((float *)a->out[k])[thread] = a->reals[0] * old + a->reals[1 + k] * value;
    }
}

// What becomes of a gradient before an optimiser's rule sees it. reals: scale, limit, decay.
DEVICE float prepared(const Arguments *a, float gradient, float parameter) {
    float scaled = gradient * a->reals[0], limit = a->reals[1];
    // NaN stays.
    float within = scaled < -limit ? -limit : scaled > limit ? limit : scaled;
    return within + a->reals[2] * parameter;
}

// Adam (Kingma and Ba 2015), or AMSGrad (Reddi et al. 2018) if there is a largest second moment; a thread has one element.
// in: parameter, gradient, first moment, second moment, largest second moment or none. out: parameter, first moment, second moment, largest.
// reals: scale, limit, decay, shrink, beta_1, rest_1, beta_2, rest_2, step, root_scale, epsilon.
KERNEL(adam) {
    const float *c = a->reals;
    float parameter = ((const float *)a->in[0])[thread];
    float gradient = prepared(a, ((const float *)a->in[1])[thread], parameter);
    float first = c[4] * ((const float *)a->in[2])[thread] + c[5] * gradient;
    float second = c[6] * ((const float *)a->in[3])[thread] + c[7] * (gradient * gradient);
    float largest = second;
    if (a->in[4]) {
        float before = ((const float *)a->in[4])[thread];
        // The larger one, and no NaN where one of them is a number.
        largest = before > second || second != second ? before : second;
        ((float *)a->out[3])[thread] = largest;
    }
    ((float *)a->out[0])[thread] = c[3] * parameter - c[8] * first / (c[9] * root(largest) + c[10]);
    ((float *)a->out[1])[thread] = first;
    ((float *)a->out[2])[thread] = second;
}

// SGD with momentum (Sutskever et al. 2013); a thread has one element.
// in: parameter, gradient, velocity. out: parameter, velocity.
// reals: scale, limit, decay, shrink, momentum, gradient_scale, step.
KERNEL(momentum) {
    const float *c = a->reals;
    float parameter = ((const float *)a->in[0])[thread];
    float gradient = prepared(a, ((const float *)a->in[1])[thread], parameter);
    float velocity = c[4] * ((const float *)a->in[2])[thread] + c[5] * gradient;
    float direction = a->numbers[FLAGS] & NESTEROV ? c[4] * velocity + c[5] * gradient : velocity;
    ((float *)a->out[0])[thread] = c[3] * parameter - c[6] * direction;
    ((float *)a->out[1])[thread] = velocity;
}
