#!/usr/bin/env bash
# Links a CUDA build on a machine without a GPU, and starts it: with NVIDIA's own libraries from PyPI (some 2 GB), and a stand-in for the
# driver that knows no device. So missing symbols are found, and what ft does where there is no GPU is seen. What needs a GPU is not.
#
#   scripts/link-cuda.sh             # cuda,cudnn
#   scripts/link-cuda.sh cuda
#
# The compiler and what its variables mean: cuda-toolkit.sh. Exit codes: 0 all well; 3 something cannot be installed; else what failed.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/cuda-toolkit.sh
features=${1:-cuda,cudnn}

libraries=$environment/link
install libraries "nvidia-cublas==$version.*" "nvidia-cuda-nvrtc==$version.*" nvidia-curand nvidia-cudnn-cu13 || {
    echo "link-cuda: cannot install NVIDIA's libraries into $environment" >&2
    exit 3
}
mkdir -p "$libraries"
# Linkers look for libX.so, where PyPI has libX.so.N.
for library in "$environment"/lib/python3*/site-packages/nvidia/{cu13,cudnn}/lib/lib*.so.*; do
    name=$(basename "$library")
    ln -sf "$library" "$libraries/$name"
    ln -sf "$library" "$libraries/${name%%.so*}.so"
done
# Every function of the driver that cudarc knows answers that there is no device (CUDA_ERROR_NO_DEVICE, 100).
cargo fetch --quiet
sources=${CARGO_HOME:-$HOME/.cargo}/registry/src/*/cudarc-*/src/driver/sys/mod.rs
grep -ohE 'fn cu[A-Z][A-Za-z0-9_]*' $sources | sort -u | sed 's/^fn \(.*\)$/int \1(void) { return 100; }/' > "$libraries/driver.c"
cc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$libraries/libcuda.so.1" "$libraries/driver.c"
ln -sf libcuda.so.1 "$libraries/libcuda.so"
export LIBRARY_PATH=$libraries LD_LIBRARY_PATH=$libraries

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
