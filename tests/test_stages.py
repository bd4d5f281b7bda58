"""The whole DAG by a real `dvc repro`, each metric against an independent computation."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics as sk
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from conftest import read_csv, read_json

SIDES = ("train", "val", "test")


def read(project: Path, path: str) -> list[dict[str, str]]:
    return read_csv(project / path)


def scores(project: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(project / "metrics/evaluate.json")
    return found


def predictions(project: Path, name: str) -> list[dict[str, str]]:
    """The rows of one model, in the order of the images."""
    return [row for row in read(project, "plots/predictions.csv") if row["model"] == name]


def test_raw_is_untouched(rebuilt: Path) -> None:
    raw = rebuilt / "data/raw"
    assert len(list(raw.rglob("*.png"))) == 240
    assert all(path.stat().st_mode & 0o200 for path in raw.rglob("*.png"))


def test_each_image_is_on_the_side_that_its_hash_says(rebuilt: Path) -> None:
    rows = read(rebuilt, "data/manifest.csv")
    assert [row["path"] for row in rows] == sorted(
        p.relative_to(rebuilt / "data/raw").as_posix() for p in rebuilt.glob("data/raw/*/*")
    )
    for row in rows:
        content = (rebuilt / "data/raw" / row["path"]).read_bytes()
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        place = int.from_bytes(hashlib.sha256(b"1\0" + row["sha256"].encode()).digest()[:8], "big") / 2**64
        assert row["split"] == ("test" if place < 0.25 else "val" if place < 0.35 else "train")
        copies = [side for side in SIDES if (rebuilt / "data/split" / side / row["path"]).exists()]
        assert copies == [row["split"]]
        assert (rebuilt / "data/split" / row["split"] / row["path"]).read_bytes() == content


def test_split_folders_are_image_folders(rebuilt: Path) -> None:
    counts = read_json(rebuilt / "metrics/split.json")
    for side in SIDES:
        dataset = ImageFolder(rebuilt / "data/split" / side)
        listed = Counter(row["label"] for row in read(rebuilt, "data/manifest.csv") if row["split"] == side)
        assert len(dataset) == counts[side]["total"] == listed.total()
        assert {c: dataset.targets.count(i) for c, i in dataset.class_to_idx.items()} == listed


def test_no_metric_grows_with_the_number_of_classes(rebuilt: Path) -> None:
    """`dvc metrics show` has a column for each number."""
    classes = {row["label"] for row in read(rebuilt, "data/manifest.csv")}
    for path in rebuilt.glob("metrics/*.json"):
        assert not [label for label in classes if label in path.read_text()], path


def test_stats_are_numpys(rebuilt: Path) -> None:
    stats = read_json(rebuilt / "metrics/stats.json")
    pixels = np.stack(
        [
            np.asarray(Image.open(path).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)) / 255
            for path in rebuilt.glob("data/split/train/*/*.png")
        ]
    )
    for axis, channel in enumerate(("red", "green", "blue")):
        assert stats["mean"][channel] == pytest.approx(pixels[..., axis].mean(), rel=1e-5)
        assert stats["std"][channel] == pytest.approx(pixels[..., axis].std(), rel=1e-5)
    assert stats["width"] == {"min": 300, "median": 300, "max": 300}


@pytest.mark.parametrize("name", ["scratch", "finetune"])
def test_metrics_are_scikit_learns(rebuilt: Path, name: str) -> None:
    """All from predictions.csv: whoever has it can compute the metrics."""
    rows, own = predictions(rebuilt, name), scores(rebuilt)[name]
    actual, predicted = [row["actual"] for row in rows], [row["predicted"] for row in rows]
    classes, of_classes = sorted(set(actual)), read(rebuilt, "plots/per_class.csv")
    probabilities = np.array([[float(row[f"probability_{label}"]) for label in classes] for row in rows])
    assert len(rows) == scores(rebuilt)["count"] == len(list(rebuilt.glob("data/split/test/*/*.png")))

    assert own["accuracy"]["value"] == pytest.approx(sk.accuracy_score(actual, predicted), rel=1e-5)
    assert own["macro_f1"]["value"] == pytest.approx(sk.f1_score(actual, predicted, average="macro"), rel=1e-5)
    normed = probabilities / probabilities.sum(1, keepdims=True)
    assert own["auroc"]["value"] == pytest.approx(sk.roc_auc_score(actual, normed, multi_class="ovr"), rel=1e-4)
    report = sk.classification_report(actual, predicted, output_dict=True, zero_division=0)
    for label in classes:
        (of_class,) = (row for row in of_classes if (row["model"], row["class"]) == (name, label))
        for column, theirs in (("precision",) * 2, ("recall",) * 2, ("f1", "f1-score"), ("test_images", "support")):
            assert float(of_class[column] or 0) == pytest.approx(report[label][theirs], rel=1e-5)
        assert float(of_class["low"]) <= float(of_class["recall"]) <= float(of_class["high"])
    states = [[name.split("-")[1] for name in names] for names in (actual, predicted)]
    assert own["merged_accuracy"]["value"] == pytest.approx(sk.accuracy_score(*states), rel=1e-5)
    for metric in ("accuracy", "macro_f1", "auroc", "merged_accuracy"):
        assert own[metric]["low"] <= own[metric]["value"] <= own[metric]["high"]


def test_predictions_are_those_of_the_checkpoint_in_plain_torch(rebuilt: Path) -> None:
    """torchvision's dataset and transforms, a hand-written forward pass over each mirror image, none of our loading code."""
    content = torch.load(rebuilt / "models/scratch.pth", weights_only=True)
    about, state = content["about"], content["state_dict"]
    transform = v2.Compose(
        [
            v2.Resize((about["resolution"], about["resolution"])),  # of a PIL image: Pillow's own
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(about["mean"], about["std"]),
        ]
    )
    dataset = ImageFolder(rebuilt / "data/split/test", transform)
    upright = torch.stack([image for image, _ in dataset])
    probabilities = []
    for images in (upright, upright.flip(2), upright.flip(3), upright.flip(2, 3)):
        for block in range(1, about["options"]["blocks"] + 1):
            key = f"backbone.block{block}"
            stride = 2 if block == 1 else 1
            images = torch.nn.functional.conv2d(images, state[f"{key}.0.weight"], stride=stride, padding=1)
            images = torch.nn.functional.batch_norm(
                images, *(state[f"{key}.1.{what}"] for what in ("running_mean", "running_var", "weight", "bias"))
            )
            images = torch.nn.functional.max_pool2d(images.relu(), 2)
        logits = images.mean((2, 3)) @ state["head.weight"].T + state["head.bias"]
        probabilities.append((logits / content["calibration"]["temperature"]).softmax(1))
    rows = predictions(rebuilt, "scratch")
    ours = [[float(row[f"probability_{label}"]) for label in about["classes"]] for row in rows]
    np.testing.assert_allclose(ours, torch.stack(probabilities).mean(0).numpy(), atol=2e-5)


def test_curves_have_a_row_an_epoch_and_the_best_is_the_one_in_the_metrics(rebuilt: Path) -> None:
    rows = read(rebuilt, "plots/train_scratch.csv")
    metrics = read_json(rebuilt / "metrics/train_scratch.json")
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    best = max(rows, key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"])))
    assert metrics["best_epoch"] == int(best["epoch"])
    assert metrics["val_accuracy"] == float(best["val_accuracy"])


def test_tsne_shows_every_train_and_test_image_of_both_models(rebuilt: Path) -> None:
    rows = read(rebuilt, "plots/tsne.csv")
    counts = read_json(rebuilt / "metrics/split.json")
    for model in ("scratch", "finetune"):
        for side in ("train", "test"):
            own = [row for row in rows if (row["model"], row["split"]) == (model, side)]
            assert len(own) == counts[side]["total"]
            assert all(row["path"].startswith(row["class"] + "/") for row in own)
