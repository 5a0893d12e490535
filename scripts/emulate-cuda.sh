#!/usr/bin/env bash
# Runs a CUDA build on a machine without a GPU, on an emulated device: the kernels of candle and of ft compiled for the processor, behind a
# stand-in for NVIDIA's driver, cuBLAS, cuRAND and cuDNN (tests/emulated_cuda). Only NVRTC is NVIDIA's own. The check of a GPU (gpu-check.sh) is run in
# its short form: every operation beside its reference, and the commands that compute beside the processor's. Then more trainings there and on the
# processor, which must agree.
#
#   scripts/emulate-cuda.sh                  # cuda,cudnn; needs g++
#   scripts/emulate-cuda.sh cuda
#   scripts/emulate-cuda.sh cuda,cudnn,nccl  # two processes with a device each too; needs Open MPI
#
# What a device does at the same time, its arithmetic and its speed are not seen here: for those `ft doctor --device cuda` on the GPU.
# The compiler and what its variables mean: cuda-toolkit.sh. Exit codes: 0 all well; 3 something cannot be installed; else what failed.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/cuda-toolkit.sh
features=${1:-cuda,cudnn}
scripts=$PWD/scripts

# NVRTC may be in the toolkit already.
if ! compgen -G "$CUDA_HOME/lib*/libnvrtc.so*" > /dev/null; then
    install nvrtc "nvidia-cuda-nvrtc==$version.*" || { echo "emulate-cuda: cannot install NVRTC into $environment" >&2; exit 3; }
fi
# The folder of a package's sources.
sources() { cargo metadata --format-version 1 --features "$features" | python3 -c "
import json, os, sys
print(next(os.path.dirname(p['manifest_path']) for p in json.load(sys.stdin)['packages'] if p['name'] == '$1'))"; }
emulated=$environment/emulated
tests/emulated_cuda/build.sh "$emulated" "$CUDA_HOME/include" "$(sources candle-kernels)/src" "$(sources cudarc)/src"
for library in "$CUDA_HOME"/lib*/libnvrtc*.so* "$CUDA_HOME"/lib*/libcudart.so*; do
    name=$(basename "$library")
    ln -sf "$library" "$emulated/$name"
    ln -sf "$library" "$emulated/${name%%.so*}.so"
done
export LIBRARY_PATH=$emulated LD_LIBRARY_PATH=$emulated
echo "emulate-cuda: cargo build --features $features"
# What is there may have been linked with NVIDIA's own libraries.
touch src/main.rs
cargo build --features "$features"
ft=$(realpath "${CARGO_TARGET_DIR:-target}/debug/ft")
echo "emulate-cuda: NVRTC compiles ft's kernels"
cargo test --features "$features" --lib passes

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export FT_CACHE=$work/cache FT_DOCTOR=never
cd "$work"
echo "emulate-cuda: the check of a GPU, in its short form"
"$scripts/gpu-check.sh" --emulated --short --binary "$ft"

# Trains a few epochs into a folder of runs of its own, with words before the program if there are some in `launcher`.
launcher=()
train() { # RUNS ARGUMENTS…
    local runs=$1
    shift
    local arguments=(--data 'petals?train=8&val=4&test=4' --epochs 3 --set train.batch_size=8 "$@")
    "${launcher[@]}" "$ft" recipe "${arguments[@]}" --runs "$runs" --json > /dev/null 2> said || { cat said; exit 1; }
}
# Compares the losses of two runs, to within a relative difference.
same() { # RUNS OTHER_RUNS DIFFERENCE
    python3 - "$@" << 'END'
import csv, glob, sys
*runs, limit = sys.argv[1:]
rows = [list(csv.DictReader(open(glob.glob(f"{folder}/*/metrics.csv")[0]))) for folder in runs]
far = max(abs(float(a[key]) / float(b[key]) - 1) for a, b in zip(*rows) for key in ("train_loss", "val_loss"))
print(f"emulate-cuda: {runs[1]}: {len(rows[0])} epochs, losses within {far:.1e}")
sys.exit(len(rows[0]) != len(rows[1]) or far > float(limit))
END
}
compare() { # NAME DIFFERENCE ARGUMENTS…
    local name=$1 difference=$2
    shift 2
    train "$name-cpu" "$@" --device cpu
    train "$name-cuda" "$@" --device cuda
    same "$name-cpu" "$name-cuda" "$difference"
}
compare transfer 1e-4 petals-transfer
FT_DEVICE_DATA=stream compare streamed 1e-4 petals-transfer
FT_DEVICE_DATA=never compare on-the-processor 1e-4 petals-transfer
FT_CUDA_PASSES=never compare composed 1e-4 petals-transfer
compare augmented 1e-4 petals-transfer --set augmentation.copies=0 --set 'augmentation.steps=["flip_left_right", "brightness"]'
compare mixed 1e-4 petals-transfer --set augmentation.copies=0 --set 'augmentation.steps=["mixup"]'
compare bf16 1e-2 petals-transfer --precision bf16
compare residual 1e-4 resnet20-cifar10 --set data.image_size=32 --set 'train.schedule={kind="constant"}' --set train.optimizer=sgd --set train.lr=0.001
compare scratch 1e-4 cnn-basic --set data.image_size=32 --set train.optimizer=rmsprop

echo "emulate-cuda: a model that was trained on the device is explained by every method there"
"$ft" explain --runs transfer-cuda --model latest --device cuda --method all --count 2 2> said || { cat said; exit 1; }
if [[ ,$features, == *,nccl,* ]]; then
    echo "emulate-cuda: two ranks with a device each, and NCCL between them"
    launcher=(mpirun -np 2 --oversubscribe)
    [ "$(id -u)" != 0 ] || launcher+=(--allow-run-as-root)
    EMULATED_CUDA_COUNTS=1 train ranks-cuda petals-transfer --device cuda
    grep -h 'gathered by NCCL' said
    same transfer-cuda ranks-cuda 1e-4
    EMULATED_CUDA_COUNTS=1 train scratch-ranks-cuda cnn-basic --set data.image_size=32 --set train.optimizer=rmsprop --device cuda
    same scratch-cuda scratch-ranks-cuda 1e-4
fi
echo "emulate-cuda: all well on the emulated device; nothing ran on a GPU"
