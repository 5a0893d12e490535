#!/usr/bin/env bash
# Links a CUDA build on a machine without a GPU, and starts it: with NVIDIA's own libraries from PyPI (some 2 GB), and a stand-in for the
# driver that knows no device. So missing symbols are found, and what ft does where there is no GPU is seen. What needs a GPU is not.
#
#   scripts/link-cuda.sh             # cuda,cudnn
#   scripts/link-cuda.sh cuda
#
# The compiler and what its variables mean: cuda-toolkit.sh; the libraries: cuda-libraries.sh. Exit codes: 0 all well; 3 something cannot be installed; else what failed.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/cuda-toolkit.sh
features=${1:-cuda,cudnn}

. scripts/cuda-libraries.sh
export LD_LIBRARY_PATH=$libraries

echo "link-cuda: cargo build --features $features"
# What is there may have been linked with the emulated device.
touch src/main.rs
cargo build --features "$features"
ft=$(realpath "${CARGO_TARGET_DIR:-target}/debug/ft")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export FT_CACHE=$work/cache
cd "$work"
echo "link-cuda: it starts, and says why it computes on the processor"
"$ft" bench --model resnet-mini --size 32 --batch 4 --steps 1 2> said || { cat said; exit 1; }
grep 'not cuda' said
if "$ft" bench --model resnet-mini --device cuda 2> said; then
    echo "link-cuda: a device that is not there was found" >&2
    exit 1
fi
cat said
"$ft" doctor --quick --device cpu > /dev/null
echo "link-cuda: linked and started; nothing ran on a GPU"
