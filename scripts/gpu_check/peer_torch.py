"""Training steps of PyTorch beside those of `ft bench`: the same networks as Keras has them, batch, size and optimiser, random weights and images.

    peer_torch.py [--device cuda] CONFIGURATIONS     # as JSON: model, freeze_before, precision, batch, size, steps; prints a line of JSON for each
    peer_torch.py [--device cuda] --check            # versions and device; exit code 3 if there is no PyTorch, or no such device for it

PyTorch gets what makes it fast without a change of results: channels last, cuDNN's search for algorithms, Adam in one kernel, one batch that lies on the
device. `torch.compile` is not used: compiling takes longer than this check may.
"""

import argparse
import json
import statistics
import sys
import time

try:
    import torch
    from torch import nn
    from torch.nn import functional
except Exception as error:  # A broken installation raises anything.
    print(f"PyTorch cannot be imported: {error}", file=sys.stderr)
    sys.exit(3)

# As `ft bench` has it.
WARM_UP = 2
CLASSES = 5
BLOCKS = [3, 4, 6, 3]
EPSILON = 1.001e-5


def batch_norm(channels):
    return nn.BatchNorm2d(channels, eps=EPSILON, momentum=0.01)


class BlockV2(nn.Module):
    """Pre-activation; the stride is in the last block of a stage, whose shortcut is a 1×1 pool."""

    def __init__(self, inputs, width, stride, project):
        super().__init__()
        self.before = batch_norm(inputs)
        self.conv1, self.norm1 = nn.Conv2d(inputs, width, 1, bias=False), batch_norm(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), batch_norm(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1)
        self.project = nn.Conv2d(inputs, 4 * width, 1, stride) if project else None
        self.stride = stride

    def forward(self, x):
        active = functional.relu(self.before(x))
        y = functional.relu(self.norm1(self.conv1(active)))
        y = self.conv3(functional.relu(self.norm2(self.conv2(y))))
        if self.project is not None:
            return self.project(active) + y
        return (functional.max_pool2d(x, 1, self.stride) if self.stride > 1 else x) + y


class BlockV1(nn.Module):
    """The stride is in the first 1×1 convolution, as in the paper of 2015."""

    def __init__(self, inputs, width, stride, project):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, width, 1, stride), batch_norm(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, 1, 1), batch_norm(width)
        self.conv3, self.norm3 = nn.Conv2d(width, 4 * width, 1), batch_norm(4 * width)
        self.project = nn.Sequential(nn.Conv2d(inputs, 4 * width, 1, stride), batch_norm(4 * width)) if project else None

    def forward(self, x):
        y = functional.relu(self.norm1(self.conv1(x)))
        y = functional.relu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        return functional.relu(y + (x if self.project is None else self.project(x)))


def stages(model):
    """The parts of a backbone by Keras' names."""
    second = model == "resnet50v2"
    stem = [nn.ZeroPad2d(3), nn.Conv2d(3, 64, 7, 2)] + ([] if second else [batch_norm(64), nn.ReLU()]) + [nn.ZeroPad2d(1), nn.MaxPool2d(3, 2)]
    parts, inputs = [("conv1", nn.Sequential(*stem))], 64
    for i, count in enumerate(BLOCKS):
        width, blocks = 64 << i, []
        for block in range(count):
            strided = (block == count - 1 and i < 3) if second else (block == 0 and i > 0)
            blocks.append((BlockV2 if second else BlockV1)(inputs, width, 2 if strided else 1, block == 0))
            inputs = 4 * width
        parts.append((f"conv{i + 2}", nn.Sequential(*blocks)))
    if second:
        parts.append(("post", nn.Sequential(batch_norm(inputs), nn.ReLU())))
    return parts


def network(model, freeze_before):
    """The whole network, and the parts that are frozen."""
    parts = stages(model)
    names = [name for name, _ in parts]
    frozen = [part for _, part in parts[: 0 if freeze_before == "none" else names.index(freeze_before)]]
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2048, 32),
        nn.ReLU(),
        nn.BatchNorm1d(32),
        nn.Linear(32, 32),
        nn.ReLU(),
        nn.Linear(32, CLASSES),
    )
    for part in frozen:
        part.requires_grad_(False)
    return nn.Sequential(*(part for _, part in parts), head), frozen


def measure(one, device):
    torch.manual_seed(0)
    exact = one["precision"] != "tf32"
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = not exact
    net, frozen = network(one["model"], one["freeze_before"])
    net = net.to(device, memory_format=torch.channels_last)
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=1e-4, eps=1e-7, fused=True)
    images = torch.randn(one["batch"], 3, one["size"], one["size"], device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(one["batch"], device=device) % CLASSES
    cuda = device.startswith("cuda")

    def numbers():
        return torch.autocast(device.split(":")[0], torch.bfloat16, enabled=one["precision"] == "bf16")

    def step():
        with numbers():
            loss = functional.cross_entropy(net(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss.item()

    def predict():
        with torch.inference_mode(), numbers():
            net(images)

    def seconds(work):
        times = []
        for _ in range(WARM_UP + one["steps"]):
            started = time.perf_counter()
            work()
            if cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
        times = times[WARM_UP:]
        return {"median": statistics.median(times), "minimum": min(times), "maximum": max(times)}

    if cuda:
        torch.cuda.reset_peak_memory_stats()
    net.train()
    for part in frozen:
        part.eval()
    train = seconds(step)
    memory = torch.cuda.max_memory_allocated() if cuda else None
    net.eval()
    forward = seconds(predict)
    return {
        "trained_weights": sum(weight.numel() for weight in weights),
        "train_images_per_second": one["batch"] / train["median"],
        "forward_images_per_second": one["batch"] / forward["median"],
        "step_seconds": {"train": train, "forward": forward},
        "peak_device_memory_bytes": memory,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("configurations", nargs="?", default="[]")
    arguments = parser.parse_args()
    cuda = arguments.device.startswith("cuda")
    if cuda and not torch.cuda.is_available():
        print(f"PyTorch {torch.__version__} sees no GPU", file=sys.stderr)
        sys.exit(3)
    if arguments.check:
        name = torch.cuda.get_device_name(arguments.device) if cuda else arguments.device
        print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "device": name}))
        return
    for one in json.loads(arguments.configurations):
        row = {**one, "failure": None}
        try:
            row.update(measure(one, arguments.device))
        except Exception as error:  # Out of memory, mostly: the next one may fit.
            row["failure"] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        print(json.dumps(row), flush=True)
        if cuda:
            torch.cuda.empty_cache()


main()
