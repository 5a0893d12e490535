// cuBLAS, cuRAND and the convolutions of cuDNN on the emulated device's memory, by plain loops. They check what they are given.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "memory.h"

extern "C" {

// cuBLAS

enum { R_32F = 0, R_64F = 1, R_16BF = 14, FAST_TF32 = 77, BLAS_NOT_SUPPORTED = 15 };

int cublasCreate_v2(void **handle) { return *handle = (void *)1, 0; }
int cublasDestroy_v2(void *) { return 0; }
int cublasSetStream_v2(void *, void *) { return 0; }
int cublasSetMathMode(void *, int) { return 0; }

static double value_at(const void *from, int type, size_t index, bool round) {
    if (type == R_64F) return ((const double *)from)[index];
    uint32_t bits = 0;
    if (type == R_16BF) bits = (uint32_t)((const uint16_t *)from)[index] << 16;
    else memcpy(&bits, (const float *)from + index, 4);
    if (round) bits = (bits + 0xfff + (bits >> 13 & 1)) & ~0x1fffu; // to the 11 bits of TF32
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static void store(void *to, int type, size_t index, double value) {
    if (type == R_64F) {
        ((double *)to)[index] = value;
        return;
    }
    float single = (float)value;
    if (type == R_32F) {
        ((float *)to)[index] = single;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &single, 4);
    bool nan = (bits & 0x7fffffff) > 0x7f800000;
    ((uint16_t *)to)[index] = (uint16_t)(nan ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// C = A B of column-major matrices; what is transposed is first turned round. Sums are longer than a device's, so nearer to the truth.
static int multiply(int turn_a, int turn_b, int m, int n, int k, const void *a, int type_a, int lda, const void *b, int type_b, int ldb,
                    double beta, void *c, int type_c, int ldc, bool round) {
    auto size = [](int type) { return type == R_64F ? 8 : type == R_32F ? 4 : 2; };
    if (beta != 0 || m < 0 || n < 0 || k < 0 || lda < (turn_a ? k : m) || ldb < (turn_b ? n : k) || ldc < m) return 7;
    emulated_counts.products++;
    if (m == 0 || n == 0) return 0;
    size_t wide_a = (size_t)(turn_a ? m : k), wide_b = (size_t)(turn_b ? k : n);
    bool inside = owned((uint64_t)c, ((size_t)ldc * (size_t)(n - 1) + (size_t)m) * (size_t)size(type_c)) &&
                  (k == 0 || (owned((uint64_t)a, ((size_t)lda * (wide_a - 1) + (size_t)(turn_a ? k : m)) * (size_t)size(type_a)) &&
                              owned((uint64_t)b, ((size_t)ldb * (wide_b - 1) + (size_t)(turn_b ? n : k)) * (size_t)size(type_b))));
    if (!inside) {
        fprintf(stderr, "emulated device: a product of %d x %d x %d goes beyond its buffers\n", m, n, k);
        return 7;
    }
    std::vector<double> left((size_t)m * (size_t)k), sums((size_t)m);
    for (size_t p = 0; p < (size_t)k; p++)
        for (size_t i = 0; i < (size_t)m; i++)
            left[p * (size_t)m + i] = value_at(a, type_a, turn_a ? i * (size_t)lda + p : p * (size_t)lda + i, round);
    for (size_t j = 0; j < (size_t)n; j++) {
        std::fill(sums.begin(), sums.end(), 0.0);
        for (size_t p = 0; p < (size_t)k; p++) {
            double factor = value_at(b, type_b, turn_b ? p * (size_t)ldb + j : j * (size_t)ldb + p, round);
            const double *column = &left[p * (size_t)m];
            for (size_t i = 0; i < (size_t)m; i++) sums[i] += factor * column[i];
        }
        for (size_t i = 0; i < (size_t)m; i++) store(c, type_c, j * (size_t)ldc + i, sums[i]);
    }
    return 0;
}

int cublasGemmStridedBatchedEx(void *, int turn_a, int turn_b, int m, int n, int k, const void *, const void *a, int type_a, int lda,
                               long long stride_a, const void *b, int type_b, int ldb, long long stride_b, const void *beta, void *c,
                               int type_c, int ldc, long long stride_c, int batch, int compute, int) {
    std::lock_guard<std::mutex> lock(device);
    auto size = [](int type) { return type == R_64F ? 8 : type == R_32F ? 4 : 2; };
    for (int i = 0; i < batch; i++) {
        int result = multiply(turn_a, turn_b, m, n, k, (const char *)a + i * stride_a * size(type_a), type_a, lda,
                              (const char *)b + i * stride_b * size(type_b), type_b, ldb, *(const float *)beta,
                              (char *)c + i * stride_c * size(type_c), type_c, ldc, compute == FAST_TF32);
        if (result) return result;
    }
    return 0;
}
int cublasDgemmStridedBatched(void *, int turn_a, int turn_b, int m, int n, int k, const double *, const double *a, int lda,
                              long long stride_a, const double *b, int ldb, long long stride_b, const double *beta, double *c, int ldc,
                              long long stride_c, int batch) {
    std::lock_guard<std::mutex> lock(device);
    for (int i = 0; i < batch; i++) {
        int result = multiply(turn_a, turn_b, m, n, k, a + i * stride_a, R_64F, lda, b + i * stride_b, R_64F, ldb, *beta,
                              c + i * stride_c, R_64F, ldc, false);
        if (result) return result;
    }
    return 0;
}
int cublasGemmEx(void *, int turn_a, int turn_b, int m, int n, int k, const void *, const void *a, int type_a, int lda, const void *b,
                 int type_b, int ldb, const void *beta, void *c, int type_c, int ldc, int compute, int) {
    std::lock_guard<std::mutex> lock(device);
    return multiply(turn_a, turn_b, m, n, k, a, type_a, lda, b, type_b, ldb, *(const float *)beta, c, type_c, ldc, compute == FAST_TF32);
}

// cuRAND: any numbers do.

int curandCreateGenerator(void **generator, int) { return *generator = (void *)1, 0; }
int curandDestroyGenerator(void *) { return 0; }
int curandSetPseudoRandomGeneratorSeed(void *, unsigned long long) { return 0; }
int curandSetStream(void *, void *) { return 0; }
int curandGenerateUniform(void *, float *to, size_t count) {
    for (size_t i = 0; i < count; i++) to[i] = (float)(drand48());
    return 0;
}
int curandGenerateNormal(void *, float *to, size_t count, float mean, float deviation) {
    // Twelve uniform numbers are nearly normal.
    for (size_t i = 0; i < count; i++) {
        double sum = -6;
        for (int k = 0; k < 12; k++) sum += drand48();
        to[i] = mean + deviation * (float)sum;
    }
    return 0;
}

// cuDNN

enum { CUDNN_FLOAT = 0, CUDNN_BFLOAT16 = 9, NHWC = 1, CROSS_CORRELATION = 1, CUDNN_DEFAULT_MATH = 0, CUDNN_FMA_MATH = 3 };
enum { BAD_PARAMETER = 2000, DNN_NOT_SUPPORTED = 3000, EXECUTION_FAILED = 5000 };

struct Tensor4 { int type, n, c, h, w; };
struct Convolution { int pad_h, pad_w, stride_h, stride_w, math; };
struct Ranked { unsigned algorithm, status; float time; size_t memory; unsigned deterministic, math; int reserved[3]; };

// The only algorithm that is to be taken: the one before it does not always give the same bits.
static const unsigned TAKEN = 1;
static const size_t WORKSPACE = 1000;

int cudnnCreate(void **handle) { return *handle = (void *)1, 0; }
int cudnnDestroy(void *) { return 0; }
int cudnnSetStream(void *, void *) { return 0; }
size_t cudnnGetVersion() { return 92100; }
int cudnnCreateTensorDescriptor(Tensor4 **made) { return *made = new Tensor4(), 0; }
int cudnnDestroyTensorDescriptor(Tensor4 *tensor) { return delete tensor, 0; }
int cudnnCreateFilterDescriptor(Tensor4 **made) { return *made = new Tensor4(), 0; }
int cudnnDestroyFilterDescriptor(Tensor4 *filter) { return delete filter, 0; }
int cudnnCreateConvolutionDescriptor(Convolution **made) { return *made = new Convolution(), 0; }
int cudnnDestroyConvolutionDescriptor(Convolution *convolution) { return delete convolution, 0; }
int cudnnSetTensor4dDescriptor(Tensor4 *tensor, int format, int type, int n, int c, int h, int w) {
    return *tensor = {type, n, c, h, w}, format == NHWC ? 0 : BAD_PARAMETER;
}
int cudnnSetFilter4dDescriptor(Tensor4 *filter, int type, int format, int k, int c, int h, int w) {
    return *filter = {type, k, c, h, w}, format == NHWC ? 0 : BAD_PARAMETER;
}
int cudnnSetConvolution2dDescriptor(Convolution *convolution, int pad_h, int pad_w, int stride_h, int stride_w, int dilation_h,
                                    int dilation_w, int mode, int type) {
    *convolution = {pad_h, pad_w, stride_h, stride_w, 0};
    return dilation_h == 1 && dilation_w == 1 && mode == CROSS_CORRELATION && type == CUDNN_FLOAT ? 0 : BAD_PARAMETER;
}
int cudnnSetConvolutionMathType(Convolution *convolution, int math) { return convolution->math = math, 0; }

static int check(const Tensor4 *x, const Tensor4 *w, const Convolution *by, const Tensor4 *y) {
    int height = (x->h + 2 * by->pad_h - w->h) / by->stride_h + 1, width = (x->w + 2 * by->pad_w - w->w) / by->stride_w + 1;
    bool fits = x->n == y->n && x->c == w->c && y->c == w->n && y->h == height && y->w == width && x->type == w->type && x->type == y->type;
    return fits ? 0 : BAD_PARAMETER;
}

// Some shapes are refused here, others only when they are launched, to see that the composed form takes them.
static int rank(const Tensor4 *x, const Tensor4 *w, const Convolution *by, const Tensor4 *y, int room, int *count, Ranked *ranked) {
    if (check(x, w, by, y)) return BAD_PARAMETER;
    if (y->w == 12) return emulated_counts.refused++, DNN_NOT_SUPPORTED;
    *count = std::min(room, 3);
    const Ranked all[] = {{0, 0, 1, 0, 0, 0, {}}, {2, DNN_NOT_SUPPORTED, -1, 0, 1, 0, {}}, {TAKEN, 0, 2, WORKSPACE, 1, 0, {}}};
    std::copy(all, all + *count, ranked);
    return 0;
}
int cudnnGetConvolutionForwardAlgorithm_v7(void *, const Tensor4 *x, const Tensor4 *w, const Convolution *by, const Tensor4 *y, int room,
                                           int *count, Ranked *ranked) {
    return rank(x, w, by, y, room, count, ranked);
}
int cudnnGetConvolutionBackwardDataAlgorithm_v7(void *, const Tensor4 *w, const Tensor4 *dy, const Convolution *by, const Tensor4 *dx,
                                                int room, int *count, Ranked *ranked) {
    return rank(dx, w, by, dy, room, count, ranked);
}
int cudnnGetConvolutionBackwardFilterAlgorithm_v7(void *, const Tensor4 *x, const Tensor4 *dy, const Convolution *by, const Tensor4 *dw,
                                                  int room, int *count, Ranked *ranked) {
    return rank(x, dw, by, dy, room, count, ranked);
}

enum Pass { FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT };

// y(n, i, j, k) = sum over c, p, q of x(n, i stride + p - pad, …, c) w(k, p, q, c), and its gradients; all are summed up in double.
static int convolve(Pass pass, const Tensor4 *x, void *xs, const Tensor4 *w, void *ws, const Convolution *by, const Tensor4 *y, void *ys,
                    unsigned algorithm, void *workspace, size_t bytes, float alpha, float beta) {
    std::lock_guard<std::mutex> lock(device);
    if (y->w == 3) return emulated_counts.refused++, DNN_NOT_SUPPORTED;
    int type = x->type == CUDNN_BFLOAT16 ? R_16BF : R_32F, size = type == R_16BF ? 2 : 4;
    auto count = [](const Tensor4 *t) { return (size_t)t->n * (size_t)t->c * (size_t)t->h * (size_t)t->w; };
    auto whole = [&](const Tensor4 *t, void *at) { return owned((uint64_t)at, count(t) * (size_t)size); };
    bool good = !check(x, w, by, y) && algorithm == TAKEN && bytes >= WORKSPACE && owned((uint64_t)workspace, bytes) && alpha == 1 &&
                beta == 0 && whole(x, xs) && whole(w, ws) && whole(y, ys);
    if (!good) return EXECUTION_FAILED;
    emulated_counts.convolutions++;
    bool round = type == R_32F && by->math == CUDNN_DEFAULT_MATH;
    auto read = [&](const Tensor4 *t, void *at) {
        std::vector<double> values(count(t));
        for (size_t i = 0; i < values.size(); i++) values[i] = value_at(at, type, i, round);
        return values;
    };
    auto zeros = [&](const Tensor4 *t) { return std::vector<double>(count(t)); };
    std::vector<double> a = pass == INPUT_GRADIENT ? zeros(x) : read(x, xs), k = pass == KERNEL_GRADIENT ? zeros(w) : read(w, ws),
                        b = pass == FORWARD ? zeros(y) : read(y, ys);
    for (int n = 0; n < y->n; n++)
        for (int i = 0; i < y->h; i++)
            for (int j = 0; j < y->w; j++)
                for (int p = 0; p < w->h; p++)
                    for (int q = 0; q < w->w; q++) {
                        int row = i * by->stride_h + p - by->pad_h, column = j * by->stride_w + q - by->pad_w;
                        if (row < 0 || row >= x->h || column < 0 || column >= x->w) continue;
                        double *pixel = &a[(size_t)((n * x->h + row) * x->w + column) * (size_t)x->c];
                        for (int out = 0; out < y->c; out++) {
                            double *tap = &k[(size_t)((out * w->h + p) * w->w + q) * (size_t)x->c];
                            double &value = b[(size_t)((n * y->h + i) * y->w + j) * (size_t)y->c + (size_t)out];
                            for (int c = 0; c < x->c; c++) {
                                if (pass == FORWARD) value += pixel[c] * tap[c];
                                else if (pass == INPUT_GRADIENT) pixel[c] += value * tap[c];
                                else tap[c] += value * pixel[c];
                            }
                        }
                    }
    auto write = [&](const std::vector<double> &values, void *to) {
        for (size_t i = 0; i < values.size(); i++) store(to, type, i, values[i]);
    };
    if (pass == FORWARD) write(b, ys);
    else if (pass == INPUT_GRADIENT) write(a, xs);
    else write(k, ws);
    return 0;
}
int cudnnConvolutionForward(void *, const float *alpha, const Tensor4 *x, void *xs, const Tensor4 *w, void *ws, const Convolution *by,
                            unsigned algorithm, void *workspace, size_t bytes, const float *beta, const Tensor4 *y, void *ys) {
    return convolve(FORWARD, x, xs, w, ws, by, y, ys, algorithm, workspace, bytes, *alpha, *beta);
}
int cudnnConvolutionBackwardData(void *, const float *alpha, const Tensor4 *w, void *ws, const Tensor4 *dy, void *dys,
                                 const Convolution *by, unsigned algorithm, void *workspace, size_t bytes, const float *beta,
                                 const Tensor4 *dx, void *dxs) {
    return convolve(INPUT_GRADIENT, dx, dxs, w, ws, by, dy, dys, algorithm, workspace, bytes, *alpha, *beta);
}
int cudnnConvolutionBackwardFilter(void *, const float *alpha, const Tensor4 *x, void *xs, const Tensor4 *dy, void *dys,
                                   const Convolution *by, unsigned algorithm, void *workspace, size_t bytes, const float *beta,
                                   const Tensor4 *dw, void *dws) {
    return convolve(KERNEL_GRADIENT, x, xs, dw, dws, by, dy, dys, algorithm, workspace, bytes, *alpha, *beta);
}
}
