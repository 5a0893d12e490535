#!/usr/bin/env python3
"""Reads the event files of runs with TensorBoard's own reader and compares them with the runs' tables.

    python3 -m venv .venv && .venv/bin/pip install tensorboard
    .venv/bin/python scripts/check-tensorboard.py runs/            # a folder of runs, or single runs
    .venv/bin/python scripts/check-tensorboard.py --server runs/   # and with its data server, as the page does

Ends with 1 if anything differs. Tests of the project read the files with a reader of their own (tests/common/events.rs), since they
need no Python; this shows that TensorBoard understands them too.
"""

import argparse
import csv
import io
import json
import pathlib
import sys
import time

from PIL import Image
from tensorboard import context
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, metadata

# Everything is kept, not the sample that the page shows.
ALL = {"scalars": 0, "histograms": 0, "images": 0, "tensors": 0}
# Events hold 32-bit floats.
TOLERANCE = 1e-6

EPOCHS = {
    ("train", "epoch/loss"): "train_loss",
    ("train", "epoch/accuracy"): "train_accuracy",
    ("train", "epoch/learning_rate"): "lr",
    ("train", "epoch/images_per_second"): "images_per_second",
    ("validation", "epoch/loss"): "val_loss",
    ("validation", "epoch/accuracy"): "val_accuracy",
    ("train", "epoch/objective"): "train_objective",
    ("validation", "epoch/objective"): "val_objective",
}
STEPS = {
    ("steps", "step/loss"): "loss",
    ("steps", "step/accuracy"): "accuracy",
    ("steps", "step/objective"): "objective",
    ("steps", "step/learning_rate"): "lr",
    ("steps", "step/images_per_second"): "images_per_second",
}

problems = []


def check(holds, message):
    if not holds:
        problems.append(message)
        print(f"  WRONG: {message}")


def rows(path):
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def events(folder):
    accumulator = EventAccumulator(str(folder), size_guidance=ALL)
    accumulator.Reload()
    return accumulator


def close(a, b):
    return abs(a - b) <= TOLERANCE * max(1.0, abs(a), abs(b))


def check_table(boards, table, step, columns):
    compared = 0
    for (board, tag), column in columns.items():
        expected = [(int(row[step]), float(row[column])) for row in table if row.get(column, "") != ""]
        if not expected:
            continue
        if tag not in boards[board].Tags()["scalars"]:
            check(False, f"{board} lacks {tag}")
            continue
        found = [(event.step, event.value) for event in boards[board].Scalars(tag)]
        same = len(found) == len(expected) and all(f[0] == e[0] and close(f[1], e[1]) for f, e in zip(found, expected))
        check(same, f"{board}: {tag} has {found[:5]}…, the table {expected[:5]}…")
        compared += len(expected)
    return compared


def check_histograms(train):
    tags = train.Tags()["histograms"]
    weights = {tag.removeprefix("weights/") for tag in tags if tag.startswith("weights/")}
    gradients = {tag.removeprefix("gradients/") for tag in tags if tag.startswith("gradients/")}
    check(weights and weights == gradients, f"histograms of {len(weights)} weights, {len(gradients)} gradients")
    for tag in tags:
        for event in train.Histograms(tag):
            histogram = event.histogram_value
            check(sum(histogram.bucket) == histogram.num > 0, f"{tag}: {histogram}")
            check(histogram.bucket_limit[-1] == histogram.max >= histogram.min, f"{tag}: {histogram}")
    return len(tags), max((len(train.Histograms(tag)) for tag in tags), default=0)


def check_images(root):
    names = root.Tags()["images"]
    for name in names:
        for event in root.Images(name):
            picture = Image.open(io.BytesIO(event.encoded_image_string))
            picture.load()
            check(picture.size == (event.width, event.height), f"{name} is {picture.size}")
    return names


def check_hparams(folder, result):
    """As the dashboard HPARAMS finds them."""
    multiplexer = plugin_event_multiplexer.EventMultiplexer(tensor_size_guidance={"hparams": 0, "scalars": 0})
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    hparams = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    request = context.RequestContext()
    found = hparams.hparams_metadata(request, "")
    experiment = hparams.experiment_from_metadata(
        request, "", True, found, hparams.hparams_from_data_provider(request, "", 0)
    )
    names = {info.name for info in experiment.hparam_infos}
    metrics = {(info.name.group, info.name.tag) for info in experiment.metric_infos}
    check({"seed", "train.lr", "backbone.model", "data.source"} <= names, f"hyperparameters: {sorted(names)}")
    check(("validation", "epoch/accuracy") in metrics or not result.get("best_val_accuracy"), f"metrics: {metrics}")
    if result.get("test_accuracy") is not None:
        check(("", "result/test_accuracy") in metrics, f"metrics: {metrics}")
    ended = any(metadata.SESSION_END_INFO_TAG in tags for tags in found.values())
    finished = bool(result) and not result["interrupted"]
    check(ended == finished, f"the session has ended: {ended}; the run: {finished}")
    for tags in found.values():
        if metadata.SESSION_END_INFO_TAG in tags:
            end = metadata.parse_session_end_info_plugin_data(tags[metadata.SESSION_END_INFO_TAG])
            check(end.status == api_pb2.STATUS_SUCCESS, f"status {end.status}")
    return len(names), len(metrics)


def check_run(folder):
    print(folder)
    boards = {}
    for name in ["", "train", "validation", "steps"]:
        if (folder / "tensorboard" / name).is_dir():
            boards[name] = events(folder / "tensorboard" / name)
    epochs, steps = rows(folder / "metrics.csv"), rows(folder / "steps.csv")
    wanted = [("train", epochs), ("validation", [row for row in epochs if row["val_loss"]]), ("steps", steps), ("", True)]
    for name, needed in wanted:
        if needed and name not in boards:
            check(False, f"there are no events in tensorboard/{name}")
            return
    compared = check_table(boards, epochs, "epoch", EPOCHS) + check_table(boards, steps, "global_step", STEPS)
    print(f"  {compared} figures of {len(epochs)} epochs and {len(steps)} lines of steps are those of the tables")
    if "train" in boards:
        series, longest = check_histograms(boards["train"])
        print(f"  {series} series of histograms, of up to {longest} epochs")
    file = folder / "result.json"
    result = json.loads(file.read_text()) if file.is_file() else {}
    for key in ["test_accuracy", "test_loss", "test_objective", "best_val_accuracy"]:
        if result.get(key) is not None:
            found = [event.value for event in boards[""].Scalars(f"result/{key}")]
            check(len(found) == 1 and close(found[0], result[key]), f"result/{key}: {found}, not {result[key]}")
    images = check_images(boards[""])
    check(images or not result, "there are no pictures")
    print(f"  pictures: {', '.join(images) or 'none'}")
    print("  %d hyperparameters, %d metrics" % check_hparams(folder, result))


def check_server(folder):
    """The data server behind TensorBoard's page, which is another program than the reader above."""
    from tensorboard.data import server_ingester
    from tensorboard.util import grpc_util

    ingester = server_ingester.SubprocessServerDataIngester(
        server_binary=server_ingester.get_server_binary(),
        logdir=str(folder),
        reload_interval=0,
        channel_creds_type=grpc_util.ChannelCredsType.LOCAL,
        samples_per_plugin={"scalars": 0, "histograms": 0, "images": 0},
        extra_flags=["--checksum"],
    )
    ingester.start()
    provider, request = ingester.data_provider, context.RequestContext()
    # It answers while it still reads.
    known = None
    for _ in range(60):
        time.sleep(0.5)
        latest = provider.read_last_scalars(request, experiment_id="", plugin_name="scalars")
        if latest and latest == known:
            break
        known = latest
    runs = sorted(run.run_name for run in provider.list_runs(request, experiment_id=""))
    print(f"data server: {len(runs)} runs")
    for plugin in ["scalars", "histograms", "images", "hparams"]:
        lister = provider.list_blob_sequences if plugin == "images" else (
            provider.list_scalars if plugin == "scalars" else provider.list_tensors
        )
        found = lister(request, experiment_id="", plugin_name=plugin)
        print(f"  {plugin}: {sum(len(tags) for tags in found.values())} series in {len(found)} runs")
        check(found, f"the data server finds no {plugin}")
    scalars = provider.read_scalars(request, experiment_id="", plugin_name="scalars", downsample=1_000_000)
    for run, tags in scalars.items():
        parts = pathlib.PurePath(run).parts
        if "tensorboard" not in parts or parts[-1] == "tensorboard":
            continue
        own = folder / pathlib.Path(*parts[: parts.index("tensorboard")])
        table, step = (("steps.csv", "global_step") if parts[-1] == "steps" else ("metrics.csv", "epoch"))
        columns = EPOCHS | STEPS
        for tag, points in tags.items():
            column = columns[(parts[-1], tag)]
            expected = [(int(row[step]), float(row[column])) for row in rows(own / table)]
            same = len(points) == len(expected) and all(
                p.step == e[0] and close(p.value, e[1]) for p, e in zip(points, expected)
            )
            check(same, f"{run}: {tag} has {len(points)} points, the table {len(expected)}")
    print(f"  figures of {len(scalars)} runs compared")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=pathlib.Path, help="runs, or folders of runs")
    parser.add_argument("--server", action="store_true", help="ask TensorBoard's data server too")
    arguments = parser.parse_args()
    for folder in arguments.folders:
        runs = [folder] if (folder / "recipe.toml").is_file() else sorted(p.parent for p in folder.glob("*/recipe.toml"))
        check(runs, f"there are no runs in {folder}")
        for run in runs:
            check_run(run)
        if arguments.server:
            check_server(folder)
    print("all is well" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
