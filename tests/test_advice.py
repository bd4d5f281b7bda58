"""What `stats` and `darkroom advice` say about the training images: each rule where it holds, and where it does not."""

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT, run, stage
from darkroom.data import advice

FLIPPED = {"flip_horizontal": True, "flip_vertical": True}
TRAINING: dict[str, Any] = {"batch_size": 32, "class_weights": "none", "augment": FLIPPED}
TREE: dict[str, dict[str, Any]] = {
    "images": {"resolution": 160},
    "train_scratch": {**TRAINING, "epochs": 20},
    "train_finetune": {**TRAINING, "epochs": 7},
}


def said(counts: dict[str, int], size: tuple[int, int] = (300, 300), **changes: dict[str, Any]) -> str:
    """The advice for images of one size, under params like the demo's with the changes to both trainings."""
    tree = copy.deepcopy(TREE)
    for name in ("train_scratch", "train_finetune"):
        tree[name].update(changes.get("train", {}))
    return "\n".join(advice.lines(counts, Counter({size: sum(counts.values())}), tree))


@pytest.mark.fast
@pytest.mark.product
def test_the_demo_needs_no_advice() -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert advice.lines({"a": 711, "b": 239, "c": 457, "d": 292}, Counter({(300, 300): 1699}), tree) == []


@pytest.mark.fast
def test_uneven_classes() -> None:
    uneven = {"many": 2000, "few": 400}
    assert "classes are 5 to 1 ('many' has 2,000 training images, 'few' 400)" in said(uneven)
    assert "balanced in train_scratch and train_finetune" in said(uneven)
    assert said(uneven, train={"class_weights": "balanced"}) == ""
    assert "1 of 2 classes have fewer than 20 training images, 'few' has 19" in said({"many": 2000, "few": 19})


@pytest.mark.fast
def test_sizes_of_images() -> None:
    even = {"a": 1000, "b": 1000}
    assert "1,200 x 900 pixels (medians) and become 160 x 160: what is narrower than 8 pixels is lost" in said(
        even, (1200, 900)
    )
    assert "images.resolution 64 takes about 6 times less time" in said(even, (28, 28))
    assert said(even, (100, 100)) == said(even, (300, 200)) == ""
    assert "2,000 of 2,000 images are twice as long as wide" in said(even, (300, 150))


@pytest.mark.fast
def test_small_images_in_shards() -> None:
    tree = {"images": {"resolution": 64}, "run": {"shards": 4}}
    (line,) = advice.lines({"a": 1000, "b": 1000}, Counter({(60, 60): 2000}), tree)
    assert "on two cores, run.shards 1 may take half of the time" in line
    for key, value in (("run", {"shards": 1}), ("images", {"resolution": 160})):
        assert not advice.lines({"a": 1000, "b": 1000}, Counter({(100, 100): 2000}), {**tree, key: value})


@pytest.mark.fast
def test_flips_of_characters_and_directions() -> None:
    digits = {f"digit-{digit}": 200 for digit in range(10)}
    still = {"augment": dict.fromkeys(FLIPPED, False)}
    assert "if classes such as 'digit-0' and 'digit-1' are characters" in said(digits)
    assert said(digits, train=still) == ""
    assert "'turn left' and 'turn right'" in said({"turn left": 900, "turn right": 900})
    assert said({"grade 1": 900, "grade 2": 900}) == ""
    assert said({**digits, **{f"species {number}": 200 for number in range(10, 22)}}) == ""


@pytest.mark.fast
def test_numbers_of_steps() -> None:
    assert (
        "train_finetune makes 42 steps (7 epochs of 6), and with fewer than 300 most models are not done: try 50"
        in said({"a": 100, "b": 100})
    )
    assert "try a smaller batch_size, and more epochs" in said({"a": 30, "b": 30})
    assert "train_scratch makes 125,000 steps (20 epochs of 6,250): with so many images, try 4 epochs first" in said(
        {"a": 100_000, "b": 100_000}
    )


@pytest.mark.fast
def test_a_section_that_lacks_keys_is_not_spoken_of() -> None:
    tree = {"images": {"resolution": 160}, "train_other": {"trees": 100}, "train_empty": None}
    assert advice.lines({"a": 10, "b": 100}, Counter({(300, 300): 110}), tree)[0].startswith("1 of 2 classes")


def test_stats_says_it_and_the_command_repeats_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage("split")
    capsys.readouterr()
    stage("stats")
    lines = [
        line.removeprefix("advice: ") for line in capsys.readouterr().out.splitlines() if line.startswith("advice: ")
    ]
    assert any("train_scratch makes" in line for line in lines)
    run("git", "init", "-q", cwd=folder)
    manifest = folder / "data/manifest.csv"
    assert run("darkroom", "advice", cwd=folder).splitlines() == lines
    manifest.unlink()
    assert "run `dvc repro split`" in run("darkroom", "advice", cwd=folder, code=2)
