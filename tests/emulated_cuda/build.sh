#!/usr/bin/env bash
# Builds the emulated device: build.sh OUT INCLUDES CANDLE CUDARC writes libcuda, libcublas, … to the folder OUT.
# INCLUDES has CUDA's headers, CANDLE candle's kernels (*.cu), CUDARC the sources of cudarc.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$1 includes=$2 candle=$3 cudarc=$4
mkdir -p "$out"
# Kernels read four numbers as one of another type.
flags=(-std=c++17 -O2 -w -fPIC -ffp-contract=off -fno-strict-aliasing -I"$includes" -I"$includes/cccl" -I"$here" -I"$candle")

# Candle's kernels, and ft's own, as C++. Whether threads of a block wait for each other depends on the file.
kernels() { # NAME FILE WAITS LINE
    local name=$1 file=$2 waits=$3 line=${4:-}
    printf '%s\n' '#include "device.h"' '#include "registry.h"' "$line" "#include \"$file\"" > "$out/$name.cpp"
    g++ "${flags[@]}" -E "$out/$name.cpp" | tr '\n' ' ' | grep -oE 'extern "C" +void +[A-Za-z0-9_]+ *\(' |
        sed -E "s/.*void +([A-Za-z0-9_]+) *\(/REGISTER(\1, $waits)/" | sort -u > "$out/$name.registered"
    cat "$out/$name.registered" >> "$out/$name.cpp"
    g++ "${flags[@]}" -c -o "$out/$name.o" "$out/$name.cpp"
}
pids=()
for name in affine binary cast fill indexing ternary unary; do kernels $name "$candle/$name.cu" false & pids+=($!); done
kernels reduce "$candle/reduce.cu" true & pids+=($!)
kernels passes "$here/../../src/ops/kernels/cuda/passes/passes.cu" false '#define __CUDACC__' & pids+=($!)
for name in device libraries nccl; do g++ "${flags[@]}" -march=native -O3 -c -o "$out/$name.o" "$here/$name.cpp" & pids+=($!); done
for pid in "${pids[@]}"; do wait "$pid"; done

# Functions that nobody has needed here yet say so.
there=$(nm -g --defined-only "$out"/{device,libraries,nccl}.o | awk '{ print $3 }')
grep -rohE 'fn (cu[A-Z]|cublas[A-Z]|curand[A-Z]|cudnn[A-Z]|nccl[A-Z])[A-Za-z0-9_]*' "$cudarc"/{driver,cublas,curand,cudnn,nccl}/sys | awk '{ print $2 }' | sort -u |
    grep -vxF "$there" |
    awk 'BEGIN { print "#include <stdio.h>" } { print "int " $1 "(void) { fprintf(stderr, \"emulated device: " $1 " is not emulated\\n\"); return 801; }" }' \
        > "$out/missing.c"
gcc -fPIC -c -o "$out/missing.o" "$out/missing.c"
# The files share some functions.
g++ -shared -Wl,-z,muldefs -Wl,-soname,libcuda.so.1 -o "$out/libcuda.so.1" "$out"/*.o
for name in libcuda.so libcublas.so libcublasLt.so libcurand.so libcudnn.so libnccl.so; do ln -sf libcuda.so.1 "$out/$name"; done
