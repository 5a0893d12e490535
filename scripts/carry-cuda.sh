#!/usr/bin/env bash
# Builds ft for an NVIDIA GPU, also on a machine that has none, to be carried to one that has: target/carry/ft, stripped.
#
#   CUDA_COMPUTE_CAP=90 scripts/carry-cuda.sh     # for an H100 or H200; 80: A100; 86, 89: GeForce of the 30 and 40 series
#   scripts/carry-cuda.sh --profile dev           # other arguments of cargo build
#
# Where it runs it needs the driver and CUDA's libraries of the same major version, from a toolkit or from pip. With cuDNN where that can be had.
# The compiler and what its variables mean: cuda-toolkit.sh; the libraries: cuda-libraries.sh. Exit codes: 0 built; 3 something cannot be installed; else
# that of cargo.
set -euo pipefail
cd "$(dirname "$0")/.."
# The toolkit that is there, and the GPU that is there.
if [ -z "${CUDA_HOME:-}" ]; then
    nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2> /dev/null || true)
    [ -z "$nvcc" ] || CUDA_HOME=$(dirname "$(dirname "$(realpath "$nvcc")")")
fi
if [ -z "${CUDA_COMPUTE_CAP:-}" ]; then
    there=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null | head -n 1 | tr -d '. ' || true)
    [ -z "$there" ] || export CUDA_COMPUTE_CAP=$there
fi
. scripts/cuda-toolkit.sh
. scripts/cuda-libraries.sh

features=cuda
[ ! -e "$libraries/libcudnn.so" ] || features=cuda,cudnn
[ $# -gt 0 ] || set -- --release
echo "carry-cuda: cargo build --features $features $* (compute capability $CUDA_COMPUTE_CAP)"
# What is there may have been linked with the emulated device.
touch src/main.rs
built=$(cargo build --features "$features" --bin ft --message-format json-render-diagnostics "$@" | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
carried=${CARGO_TARGET_DIR:-target}/carry
mkdir -p "$carried"
strip -o "$carried/ft" "$built"
echo "carry-cuda: $carried/ft, $(du --apparent-size -m "$carried/ft" | cut -f 1) MB"
