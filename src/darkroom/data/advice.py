"""What the training images say about params.yaml, a line for each piece of advice, with its reason.

It is printed and changes nothing: no output has it, so that a training may change its params without a new `stats`.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from math import ceil
from statistics import median
from typing import Any

from darkroom.system.trees import value_at

UNEVEN = 4  # the largest class against the smallest; with 3, as on the demo, weights made no difference
FEW_IMAGES = 20  # of a class, for training
REDUCED, ENLARGED = 3, 2  # times
SMALLEST = 64  # pixels; five blocks need no less
FEW_PIXELS = 96  # of a side; at 64, four shards took 1.9 times as long as one on two cores, at 160 only 1.1 times
LONG = 2.0  # times as long as wide; photos have 1.3 to 1.8
FEW_BATCHES = 5  # an epoch
FEW_STEPS, MANY_STEPS = 300, 30_000  # the demo's trainings make 371 and 1,060
CHARACTERS = 8  # classes with names that end in one character, and most of all; fewer may be grades
DIRECTIONS = {"left", "right", "up", "down"}

Trainings = Mapping[str, Mapping[str, Any]]  # the section of each


def lines(counts: Mapping[str, int], sizes: Counter[tuple[int, int]], tree: Mapping[str, Any]) -> list[str]:
    """The advice.

    Args:
        counts: The training images of each class.
        sizes: How many training images have each width and height.
        tree: params.yaml, unchecked. What a section lacks is not spoken of.
    """
    trainings = {
        name: section for name, section in tree.items() if name.startswith("train_") and isinstance(section, dict)
    }
    return [
        *_on_classes(counts, trainings),
        *_on_sizes(sizes, value_at(tree, "images.resolution")),
        *_on_shards(value_at(tree, "images.resolution"), value_at(tree, "run.shards")),
        *_on_flips(list(counts), trainings),
        *_on_steps(sum(counts.values()), trainings),
    ]


def _on_classes(counts: Mapping[str, int], trainings: Trainings) -> Iterator[str]:
    largest, smallest = max(counts, key=lambda label: counts[label]), min(counts, key=lambda label: counts[label])
    ratio = counts[largest] / counts[smallest]
    unweighted = [name for name, section in trainings.items() if section.get("class_weights") == "none"]
    if ratio >= UNEVEN and unweighted:
        yield (
            f"the classes are {ratio:.0f} to 1 ({largest!r} has {counts[largest]:,} training images, {smallest!r} "
            f"{counts[smallest]:,}), and each image counts the same: if the small classes matter as much, set class_weights to "
            f"balanced in {' and '.join(unweighted)}"
        )
    if few := [label for label in counts if counts[label] < FEW_IMAGES]:
        yield (
            f"{len(few)} of {len(counts)} classes have fewer than {FEW_IMAGES} training images, {smallest!r} has "
            f"{counts[smallest]}: add images, and judge by `darkroom crossval`, which tests on train and val in turn"
        )


def _on_sizes(sizes: Counter[tuple[int, int]], resolution: object) -> Iterator[str]:
    if not isinstance(resolution, int) or resolution < 1:
        return
    width, height = median(size[0] for size in sizes.elements()), median(size[1] for size in sizes.elements())
    usual, side = f"the images are {width:,.0f} x {height:,.0f} pixels (medians)", max(width, height)
    if side >= REDUCED * resolution:
        yield (
            f"{usual} and become {resolution} x {resolution}: what is narrower than {side / resolution:.0f} pixels is lost; if "
            "the classes differ in small details, try a larger images.resolution (time and memory grow with its square)"
        )
    enough = max(SMALLEST, ceil(side / 32) * 32)
    if side * ENLARGED <= resolution and enough < resolution:
        yield (
            f"{usual} and become {resolution} x {resolution}, which shows no more: images.resolution {enough} takes about "
            f"{(resolution / enough) ** 2:.0f} times less time; a fine-tuned model may still gain from enlarged images"
        )
    long = sum(count for size, count in sizes.items() if max(size) >= LONG * min(size))
    if 2 * long > sizes.total():
        yield (
            f"{long:,} of {sizes.total():,} images are twice as long as wide, or more, and are squeezed into squares: if "
            "shapes matter, cut or pad them before `dvc add data/raw`"
        )


def _on_shards(resolution: object, shards: object) -> Iterator[str]:
    if isinstance(resolution, int) and isinstance(shards, int) and resolution <= FEW_PIXELS and shards > 1:
        yield (
            f"images of {resolution} x {resolution} pixels in {shards} shards keep cores less busy than in one: on two cores, "
            "run.shards 1 may take half of the time (with more cores, shards let more workers take part)"
        )


def _on_flips(labels: list[str], trainings: Trainings) -> Iterator[str]:
    words = {label: re.split(r"[\W_]", label.lower())[-1] for label in labels}
    telling = [label for label, word in words.items() if len(word) == 1 and word.isalnum()]
    if len(telling) < max(CHARACTERS, len(labels) / 2):
        telling = [label for label, word in words.items() if word in DIRECTIONS]
    flips = "flip_horizontal", "flip_vertical"
    flipped = [
        name for name, section in trainings.items() if any((section.get("augment") or {}).get(flip) for flip in flips)
    ]
    if len(telling) > 1 and flipped:
        yield (
            f"if classes such as {telling[0]!r} and {telling[1]!r} are characters or directions, a mirrored one is another or "
            f"none: set flip_horizontal and flip_vertical to false in {' and '.join(flipped)}"
        )


def _on_steps(images: int, trainings: Trainings) -> Iterator[str]:
    for name, section in trainings.items():
        batch, epochs = section.get("batch_size"), section.get("epochs")
        if not (isinstance(batch, int) and isinstance(epochs, int) and batch > 0):
            continue
        each = max(1, images // batch)
        steps = each * epochs
        said = f"{name} makes {steps:,} steps ({epochs} epochs of {each:,})"
        if steps < FEW_STEPS:
            way = f"{ceil(FEW_STEPS / each)} epochs" if each >= FEW_BATCHES else "a smaller batch_size, and more epochs"
            yield f"{said}, and with fewer than {FEW_STEPS} most models are not done: try {way}"
        if steps > MANY_STEPS and epochs > (enough := max(1, MANY_STEPS // each)):
            yield f"{said}: with so many images, try {enough} epochs first"
