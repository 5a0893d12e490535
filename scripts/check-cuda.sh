#!/usr/bin/env bash
# Compiles everything that only a CUDA build has, on a machine without a GPU: candle's kernels by nvcc, ft's own code by clippy.
# Nothing is linked and nothing runs (scripts/link-cuda.sh does that). The compiler and what its variables mean: cuda-toolkit.sh.
#
#   scripts/check-cuda.sh                      # both feature sets, as CI does
#   scripts/check-cuda.sh cuda,cudnn,nccl      # others
#
# Exit codes: 0 all compiled; 3 there is no compiler and none could be installed; else that of cargo.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/cuda-toolkit.sh

[ $# -gt 0 ] || set -- cuda cuda,cudnn
for features in "$@"; do
    echo "check-cuda: cargo clippy --all-targets --features $features (nvcc $version, compute capability $CUDA_COMPUTE_CAP)"
    cargo clippy --all-targets --features "$features" -- -D warnings
done
echo "check-cuda: compiled; nothing was linked or run"
