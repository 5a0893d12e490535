# Shortcuts for https://just.systems. Every recipe is a plain command; CONTRIBUTING.md lists them without just.

# Format and lints, as CI checks them
check:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings

# All tests, or some: `just test --test resuming`
test *arguments:
    cargo test {{arguments}}

# Everything that a change has to pass
ci:
    bash .ci/run

# Compares the golden fixtures with their checksums
fixtures:
    cd tests/fixtures/golden && sha256sum --check --quiet SHA256SUMS

# Makes tests/fixtures/models again; needs Python with numpy, torch and torchvision
fixtures-models:
    python3 tests/fixtures/generate/basic_resnets.py

# Training speed on this machine, with random weights; benches/README.md explains the output
bench *arguments:
    cargo run --release -- bench --model resnet50v2 --freeze-before conv4 --size 160 {{arguments}}

# Compiles and lints the CUDA builds; no GPU needed
cuda-check:
    scripts/check-cuda.sh
