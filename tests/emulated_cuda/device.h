// What kernels in CUDA C++ find on a device, on the processor: read before each of candle's kernel files, which are then plain C++.
//
// Blocks run one after the other. Threads of a block that wait for each other are fibers, the others run one after the other too
// (device.cpp).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

// Before CUDA's own headers, which then take the paths for a host's compiler.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#undef __global__
#undef __device__
#undef __forceinline__
#undef __shared__
#define __global__
#define __device__
#define __forceinline__ inline
// Blocks do not run at the same time, so the memory that a block shares is there once.
#define __shared__ static
#define __launch_bounds__(...)

// After CUDA's headers: only candle's kernels are to believe it.
#define __CUDA_ARCH__ 800
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0

struct Place { unsigned x, y, z; };
extern Place emulated_thread, emulated_block, emulated_block_size, emulated_grid_size;
#define threadIdx emulated_thread
#define blockIdx emulated_block
#define blockDim emulated_block_size
#define gridDim emulated_grid_size

// Waits until all threads of the block are here.
void __syncthreads();
// The `size` bytes that the thread number (own number in its warp ^ mask) gives; all threads of a warp call it.
void emulated_exchange(void *value, size_t size, unsigned mask);

template <class T> T __shfl_xor_sync(unsigned, T value, int mask, int = 32) {
    emulated_exchange(&value, sizeof(T), (unsigned)mask);
    return value;
}

// Threads do not run at the same time.
template <class T> T atomicAdd(T *at, T value) { T old = *at; *at = (T)(old + value); return old; }
template <class T, class V> T atomicMax(T *at, V given) { T value = (T)given; T old = *at; if (value > old) *at = value; return old; }
template <class T, class V> T atomicMin(T *at, V given) { T value = (T)given; T old = *at; if (value < old) *at = value; return old; }
template <class T> T atomicCAS(T *at, T expected, T value) { T old = *at; if (old == expected) *at = value; return old; }

template <class A, class B> auto min(A a, B b) -> decltype(a + b) { return a < b ? a : b; }
template <class A, class B> auto max(A a, B b) -> decltype(a + b) { return a > b ? a : b; }

template <class To, class From> To emulated_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "same size");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
inline float __uint_as_float(unsigned v) { return emulated_bits<float>(v); }
inline unsigned __float_as_uint(float v) { return emulated_bits<unsigned>(v); }
inline float __int_as_float(int v) { return emulated_bits<float>(v); }
inline int __float_as_int(float v) { return emulated_bits<int>(v); }
inline double __longlong_as_double(long long v) { return emulated_bits<double>(v); }
inline long long __double_as_longlong(double v) { return emulated_bits<long long>(v); }
inline float rsqrtf(float v) { return 1.0f / std::sqrt(v); }
inline float normcdff(float v) { return 0.5f * std::erfc(-v * 0.70710678f); }
inline double normcdf(double v) { return 0.5 * std::erfc(-v * 0.7071067811865476); }

// Of half-precision numbers CUDA has these for devices only.
#define EMULATED_HALF(name, function)                                                                \
    inline __half name(__half v) { return __float2half(function(__half2float(v))); }                 \
    inline __nv_bfloat16 name(__nv_bfloat16 v) { return __float2bfloat16(function(__bfloat162float(v))); }
EMULATED_HALF(hsqrt, std::sqrt)
EMULATED_HALF(hcos, std::cos)
EMULATED_HALF(hsin, std::sin)
EMULATED_HALF(hexp, std::exp)
EMULATED_HALF(hlog, std::log)
using std::isnan;
using std::signbit;
