"""The steps of the check. Each returns False if it is left out, and raises what stands in its way."""

import csv
import glob
import hashlib
import json
import math
import os
import struct

import machine
from record import Failed

HERE = os.path.dirname(os.path.abspath(__file__))

# Limits of differences are ten times what rounding alone does to the same training on the processor, at least and at most so much.
LOSSES = (1e-4, 0.05)
PROBABILITIES = (1e-3, 0.1)
# The same weights on both devices: nothing has time to grow.
SAME_WEIGHTS = 1e-4
SAME_MAPS = 1e-3


class Size:
    """How much is computed: enough for a GPU, or little enough for the emulated device."""

    def __init__(self, short, batch):
        self.short = short
        self.data = ["--data", "petals?train=8&val=4&test=4", "--set", "train.batch_size=8"] if short else []
        self.epochs = 3 if short else 8
        self.photos = "4" if short else "12"
        self.rates = "4" if short else "40"
        self.image, self.steps = (32, 1) if short else (224, 6)
        self.batch = batch or (2 if short else None)

    def batches(self, memory_gb):
        """The large batch, as memory allows, and that of the recipes."""
        large = self.batch or next((batch for batch, least in ((128, 20), (64, 10)) if memory_gb >= least), 32)
        return large, 32


def facts(step):
    """What there is; whether the program fits the machine."""
    check = step.check
    computer, program, gpus = machine.computer(), machine.program(check.binary), machine.gpus()
    path = check.environment.get("LD_LIBRARY_PATH", "")
    libraries = machine.linked(check.binary, path) or {}
    named = {name: os.path.realpath(file) if file else None for name, file in libraries.items()}
    cuda = {name: file for name, file in named.items() if file is None or any(word in name for word in ("cu", "nv"))}
    step.figures = {"computer": computer, "gpus": gpus or [], "program": program, "libraries": cuda, "library_path": path}
    step.require(
        "the program was built with CUDA",
        machine.is_for_cuda(check.binary),
        "build it with --features cuda,cudnn" if not machine.is_for_cuda(check.binary) else "",
    )
    missing = [name for name, file in named.items() if file is None]
    step.require("all its libraries are there", not missing, "missing: " + ", ".join(missing) if missing else "")
    if check.options.emulated:
        step.notes.append("on the emulated device: no GPU was asked for")
        return
    step.require("nvidia-smi shows a GPU", gpus, "" if gpus else "it shows none, or there is no such program")
    kernels = [int(text.rsplit("_", 1)[1].rstrip("abcdefghijklmnopqrstuvwxyz")) for text in program["kernels"]]
    has, needs = round(10 * min((machine.number(gpu["compute_cap"]) for gpu in gpus or []), default=0)), max(kernels, default=0)
    if has and needs:
        step.require(
            f"its kernels (compute capability {needs / 10}) fit the GPU ({has / 10})",
            needs <= has,
            "" if needs <= has else "build it with CUDA_COMPUTE_CAP of the GPU",
        )


def doctor_quick(step):
    doctor(step, ["--quick"])


def doctor_full(step):
    doctor(step, [])


def doctor(step, form):
    done = step.command([step.check.binary, "doctor", *form, "--device", "cuda", "--json"])
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise Failed(f"ft doctor gave no result: {done.failure()}") from None
    # All that was compared would fill the report.
    found["checks_off"] = [one for one in found.pop("checks") if not one["ok"]]
    if found["ok"]:
        found["facts"] = {key: found["facts"][key] for key in ("features", "levels", "instructions", "devices")}
    step.figures = found
    step.require(
        f"{len(found['operations'])} rows of operations and {len(found['steps'])} training steps are within their limits",
        found["ok"],
        ", ".join(found["off"]),
    )


def training(step):
    """A training in f32 on both devices; the processor does it twice, with other instructions, to see what rounding does."""
    train_on_both(step, "f32", "f32", "cuda-f32")


def other_numbers(step):
    """The same in bf16 on both, and in tf32 on the GPU, which the processor has not."""
    train_on_both(step, "bf16", "bf16", "cuda-bf16")
    # tf32 has three more bits than bf16, so it must not be further from f32 than bf16 is.
    train_on_both(step, "tf32", "f32", "cuda-tf32")


def train_on_both(step, precision, on_processor, name):
    check = step.check
    kept = check.runs
    reference = kept.get(f"cpu-{on_processor}") or train(step, f"cpu-{on_processor}", "cpu", on_processor)
    if precision == "tf32":
        other = kept.get("cpu-bf16") or train(step, "cpu-bf16", "cpu", "bf16")
    else:
        other = kept.get(f"portable-{on_processor}") or train(step, f"portable-{on_processor}", "cpu", on_processor, {"FT_INSTRUCTIONS": "portable"})
    subject = train(step, name, "cuda", precision)
    rows = [epochs(run) for run in (reference, other, subject)]
    pairs = list(zip(*rows))
    step.figures.setdefault("trainings", {})[precision] = [
        {
            "epoch": a["epoch"],
            "cpu": losses(a),
            "rounding": losses(b),
            "cuda": losses(c),
            "difference": far([a], [c]),
            "rounding_difference": far([a], [b]),
        }
        for a, b, c in pairs
    ]
    step.require(f"{precision}: all {check.size.epochs} epochs were trained", len(rows[2]) == check.size.epochs == len(rows[0]))
    step.compare(
        f"{precision}: losses, relative to the processor's",
        far(rows[0], rows[2]),
        limit(far(rows[0], rows[1]), LOSSES),
        "largest of all epochs, training and validation",
    )
    a, b, c = (probabilities(step, run, device) for run, device in ((reference, "cpu"), (other, "cpu"), (subject, "cuda")))
    step.compare(
        f"{precision}: probabilities of test photos after the training",
        apart(a, c),
        limit(apart(a, b), PROBABILITIES),
        f"{len(a)} photos; {same_class(a, c)} get the same class",
    )
    again = probabilities(step, subject, "cpu", precision=None)
    note = f"{len(c)} photos, on the processor in f32"
    if precision == "f32":
        step.compare("f32: probabilities of the same weights on both devices", apart(again, c), SAME_WEIGHTS, note)
    rates = {device: result(run)["train_images_per_second"] for device, run in (("cpu", reference), ("cuda", subject))}
    step.figures.setdefault("images_per_second", {})[precision] = rates


def limit(rounding, bounds):
    least, most = bounds
    return min(max(10 * rounding, least), most) if rounding == rounding else most


def recipe(step, runs, device, precision):
    size = step.check.size
    return [
        "recipe",
        "petals-transfer",
        *size.data,
        "--epochs",
        size.epochs,
        "--seed",
        "1",
        "--precision",
        precision,
        "--device",
        device,
        "--runs",
        runs,
        "--json",
    ]


def train(step, name, device, precision, environment=None):
    """Trains into a folder of runs of that name; the run's folder."""
    step.ft(*recipe(step, name, device, precision), environment=environment)
    step.check.runs[name] = only_run(step, name)
    return step.check.runs[name]


def only_run(step, runs):
    found = glob.glob(os.path.join(step.check.work, runs, "*", "recipe.toml"))
    if len(found) != 1:
        raise Failed(f"{len(found)} runs in {runs} instead of one")
    return os.path.dirname(found[0])


def epochs(run):
    with open(os.path.join(run, "metrics.csv"), newline="") as file:
        return list(csv.DictReader(file))


def result(run):
    with open(os.path.join(run, "result.json")) as file:
        return json.load(file)


def losses(row):
    return [float(row[key]) if row[key] else math.nan for key in ("train_loss", "val_loss")]


def far(rows, others):
    """Largest relative difference of losses; no number if one is none."""
    return largest(abs(a / b - 1) for row, other in zip(rows, others) for a, b in zip(losses(row), losses(other)))


def largest(values):
    """`max` would lose what is no number."""
    values = list(values)
    return math.nan if not values or any(value != value for value in values) else max(values)


def test_photos(step):
    found = sorted(glob.glob(os.path.join(step.check.environment["FT_CACHE"], "data", "petals-*", "photos", "test", "*", "*")))
    if not found:
        raise Failed("the drawn photos for the test are not in the cache")
    return found


def probabilities(step, run, device, precision="f32"):
    """Of each test photo by the last weights of a run: the probability of each class."""
    numbers = ["--precision", precision] if precision else []
    done = step.ft(
        "predict", "--model", os.path.join(run, "last.safetensors"), "--device", device, "--top", "99", "--json", *numbers, *test_photos(step)
    )
    return [{one["class"]: one["probability"] for one in photo["top"]} for photo in json.loads(done.stdout)["predictions"]]


def apart(photos, others):
    if len(photos) != len(others):
        return math.nan
    return largest(abs(a[name] - b.get(name, math.nan)) for a, b in zip(photos, others) for name in a)


def same_class(photos, others):
    return sum(max(a, key=a.get) == max(b, key=b.get) for a, b in zip(photos, others))


def trained(step):
    """A model to look at: the GPU's, or the processor's if there is none."""
    for name in ("cuda-f32", "cpu-f32"):
        if name in step.check.runs:
            return name, step.check.runs[name]
    return "cpu-f32", train(step, "cpu-f32", "cpu", "f32")


def grad_cam(step):
    """Raw maps of one model on both devices."""
    name, run = trained(step)
    step.notes.append(f"of the model {name}")
    folders = {}
    for device in ("cpu", "cuda"):
        step.ft(
            "explain",
            "--model",
            run,
            "--device",
            device,
            "--method",
            "gradcam",
            "--count",
            step.check.size.photos,
            "--out",
            f"maps-{device}",
            "--json",
        )
        folders[device] = os.path.join(step.check.work, f"maps-{device}")
    maps = {
        device: {os.path.relpath(file, folder): array(file) for file in glob.glob(os.path.join(folder, "**", "*.npy"), recursive=True)}
        for device, folder in folders.items()
    }
    step.require(f"the same {len(maps['cpu'])} photos are explained", maps["cpu"] and maps["cpu"].keys() == maps["cuda"].keys())
    rows = []
    for file in sorted(maps["cpu"].keys() & maps["cuda"].keys()):
        (shape, cpu), (other_shape, cuda) = maps["cpu"][file], maps["cuda"][file]
        top = max(map(abs, cpu)) or 1.0
        difference = largest(abs(a - b) for a, b in zip(cpu, cuda)) / top if shape == other_shape else math.nan
        rows.append({"map": file, "shape": shape, "largest": top, "difference": difference})
    step.figures["maps"] = rows
    step.compare("Grad-CAM maps, relative to a map's largest value", largest(row["difference"] for row in rows), SAME_MAPS, f"{len(rows)} raw maps")


def array(file):
    """Shape and values of a `.npy` file of `float32`, without NumPy."""
    with open(file, "rb") as stream:
        content = stream.read()
    length = struct.unpack("<H", content[8:10])[0]
    header = content[10 : 10 + length].decode()
    if content[:8] != b"\x93NUMPY\x01\x00" or "'<f4'" not in header or "'fortran_order': False" not in header:
        raise Failed(f"{file} is no array of float32: {header}")
    shape = [int(part) for part in header.split("(")[1].split(")")[0].split(",") if part.strip()]
    values = content[10 + length :]
    return shape, struct.unpack(f"<{len(values) // 4}f", values)


def resume(step):
    """A training on the GPU that gets Ctrl-C goes on, and ends as the one that nobody stopped."""
    check = step.check
    whole = check.runs.get("cuda-f32") or train(step, "cuda-f32", "cuda", "f32")
    runs = "stopped"
    step.ft(*recipe(step, runs, "cuda", "f32"), stop_at="epoch   1:" if check.size.short else "epoch   3:")
    run = only_run(step, runs)
    before = len(epochs(run))
    step.require(
        "Ctrl-C stopped it before its end", result(run)["interrupted"] and before < check.size.epochs, f"after {before} of {check.size.epochs} epochs"
    )
    step.ft("resume", run, "--runs", runs, "--device", "cuda", "--json")
    rows, others = epochs(whole), epochs(run)
    step.require("all epochs are there", len(rows) == len(others), f"{len(others)} of {len(rows)}")
    step.compare("losses before it was stopped, of two trainings of one seed", far(rows[:before], others[:before]), LOSSES[0], "0: bit for bit")
    step.compare("losses after it was resumed", far(rows[before:], others[before:]) if before < len(rows) else math.nan, LOSSES[0], "0: bit for bit")
    same = digest(whole) == digest(run)
    step.figures = {"stopped_after": before, "epochs": len(others), "same_weights_to_the_last_bit": same}
    step.notes.append("the last weights are the same to the last bit" if same else "the last weights differ in some bits")


def digest(run):
    with open(os.path.join(run, "last.safetensors"), "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def learning_rates(step):
    """The curve of `ft lr-find` on both devices, as far as its losses are those of a training that has not gone out of bounds."""
    size = step.check.size
    curves = []
    for device in ("cpu", "cuda"):
        plot = f"rates-{device}.png"
        done = step.ft("lr-find", "petals-transfer", *size.data, "--steps", size.rates, "--seed", "1", "--device", device, "--plot", plot, "--json")
        curves.append(json.loads(done.stdout))
    cpu, cuda = ([point["loss"] for point in curve["points"]] for curve in curves)
    half = len(cpu) // 2
    step.figures = {"cpu": curves[0], "cuda": curves[1]}
    step.compare(
        "losses of the smaller half of the rates, relative",
        largest(abs(a / b - 1) for a, b in zip(cpu[:half], cuda[:half])),
        LOSSES[0],
        f"{half} rates",
    )


NETWORKS = [("resnet50v2", "conv4"), ("resnet50", "none")]
PRECISIONS = ["f32", "tf32", "bf16"]


def configurations(step, batch):
    size = step.check.size
    return [
        {"model": model, "freeze_before": before, "precision": numbers, "batch": batch, "size": size.image, "steps": size.steps}
        for model, before in NETWORKS
        for numbers in PRECISIONS
    ]


def bench(step):
    benches(step, step.check.size.batches(memory(step))[0])


def bench_small(step):
    large, small = step.check.size.batches(memory(step))
    if step.check.size.short or large == small:
        step.notes.append("the batch is the large one's")
        return False
    return benches(step, small)


def memory(step):
    """GiB that are free on the GPU that has least of it."""
    gpus = next((other.figures.get("gpus") for other in step.check.steps if other.name == "machine"), None)
    return min((machine.number(gpu["memory.free"]) / 1024 for gpu in gpus or []), default=0.0)


def benches(step, batch):
    """Every network in every precision; one that fails does not keep the others from being measured."""
    rows = step.figures["benches"] = []
    for number, one in enumerate(configurations(step, batch)):
        share = step.left() / (len(NETWORKS) * len(PRECISIONS) - number)
        arguments = [
            "--model",
            one["model"],
            "--freeze-before",
            one["freeze_before"],
            "--size",
            one["size"],
            "--batch",
            batch,
            "--steps",
            one["steps"],
            "--precision",
            one["precision"],
        ]
        # What the GPU can do at most takes some seconds to find out: with one network only.
        more = ["--roofline"] if one["model"] == NETWORKS[0][0] and step.name == "bench" and not step.check.size.short else []
        # One that hangs must leave some time to the rest.
        done = step.command([step.check.binary, "bench", *arguments, *more, "--device", "cuda", "--json"], limit=max(2 * share, 5))
        row = {**one, "failure": None if done.ok else done.failure()}
        if done.ok:
            row.update(json.loads(done.stdout))
        else:
            step.problems.append(f"{one['model']}, {one['precision']}: {done.failure()}")
        rows.append(row)


def torch(step):
    """PyTorch's training steps of the same networks."""
    check = step.check
    device = check.options.torch_device
    asked = [check.options.python, os.path.join(HERE, "peer_torch.py"), "--device", device]
    # PyTorch finds its own libraries; those that ft was given may be others.
    environment = {"LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")}
    there = step.command([*asked, "--check"], environment=environment)
    if there.exit_code == 3:
        step.commands[-1]["failed"] = False
        step.notes.append(there.stderr.strip())
        return False
    if not there.ok:
        raise Failed(f"PyTorch cannot be asked: {there.failure()}")
    step.figures["torch"] = json.loads(there.stdout)
    done = step.command([*asked, json.dumps(configurations(step, check.size.batches(memory(step))[0]))], environment=environment)
    rows = step.figures["benches"] = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    step.problems += [f"{row['model']}, {row['precision']}: {row['failure']}" for row in rows if row["failure"]]
    if not done.ok:
        step.problems.append(f"PyTorch's steps: {done.failure()}")


# Name, title, seconds at most, work. Correctness first, then speed, then what takes all that is left.
ALL = [
    ("machine", "Machine and program", 30, facts),
    ("doctor", "Every operation, short form", 60, doctor_quick),
    ("training", "A training beside the processor's", 60, training),
    ("grad-cam", "Grad-CAM beside the processor's", 30, grad_cam),
    ("resume", "A training that is stopped and resumed", 45, resume),
    ("lr-find", "Learning rates beside the processor's", 30, learning_rates),
    ("bench", "Training speed", 120, bench),
    ("torch", "PyTorch on the same GPU", 80, torch),
    ("precision", "Trainings in bf16 and tf32", 60, other_numbers),
    ("bench-small", "Training speed with the recipes' batch", 60, bench_small),
    ("doctor-full", "Every operation, at full size", 240, doctor_full),
]
