"""Trainings of candidate recipes, for recipes.py.

    python recipe.py FOLDER DEVICE FOLDS SECONDS JOBS

FOLDER has a folder of images for each set. JOBS is JSON: (set, model, candidate, fold, changes, others) each. Prints a line of
JSON for each, until SECONDS are over (0: never).
"""

import json
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

from darkroom.system import determinism, params
from darkroom.system.params import Run

_, FOLDER, DEVICE, FOLDS, SECONDS, JOBS = sys.argv
# Accuracies count here, not bytes. Two trainings of one thread each do 1.4 times the work of one that has two threads.
RUN = Run.model_validate(
    params.tree_of_params()["run"]
    | {"mode": "native", "threads": 1}
    | ({"shards": 1, "device": "cuda"} if DEVICE == "cuda" else {})
)
determinism.prepare(RUN)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from darkroom.data import assignment, folds  # noqa: E402
from darkroom.data.images import Folder, list_images, load_folder  # noqa: E402
from darkroom.networks import small_cnn  # noqa: E402
from darkroom.networks.calibration import calibrated  # noqa: E402
from darkroom.networks.checkpoint import About  # noqa: E402
from darkroom.networks.forward import look  # noqa: E402
from darkroom.networks.weights import load_pretrained, with_new_head  # noqa: E402
from darkroom.stages import train_finetune, train_scratch  # noqa: E402
from darkroom.system import files  # noqa: E402
from darkroom.training import loop, optimizers  # noqa: E402
from darkroom.training.augmentation import flips  # noqa: E402
from darkroom.training.batch_norm import Statistics  # noqa: E402

RESOLUTION = {"demo": 160, "digits": 64, "typefaces": 64}
SMALL = {160: 112, 64: 48}  # side of the images of the first epochs, multiples of 16; 112 costs half as much as 160
STATES = "demo"  # the set whose classes are merged to their last word: defective or functional


def main() -> None:
    """Do the jobs."""
    started = time.monotonic()
    for name, model, candidate, fold, changes, others in json.loads(JOBS):
        if float(SECONDS) and time.monotonic() - started > float(SECONDS):
            return
        row = {"set": name, "model": model, "candidate": candidate, "fold": fold}
        print(json.dumps(row | judge(name, model, fold, changes, others)), flush=True)


def judge(name: str, model: str, fold: int, changes: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """Train one fold, and say which of its images are right."""
    images = images_of(name)
    learn, held = folds.parts(images.labels, np.arange(len(images.labels)), int(FOLDS))[fold]
    started = time.perf_counter()
    probabilities, of_one_view = train(model, images, learn, held, changes, others)
    seconds = time.perf_counter() - started
    right, right_once = (hits(found, images, held, name == STATES) for found in (probabilities, of_one_view))
    loss = -np.log(probabilities[np.arange(len(held)), images.labels[held]].clip(1e-12)).mean()
    return {
        "right": "".join(map(str, right.astype(int))),
        "accuracy": round(float(right.mean()), 5),
        "one view": round(float(right_once.mean()), 5),
        "loss": round(float(loss), 5),
        "seconds": round(seconds, 1),
    }


@cache
def images_of(name: str) -> Folder:
    """The images of train and val: all but those that the project's split gives to test. The demo's are in the manifest."""
    folder, split = Path(FOLDER, name), params.tree_of_params()["split"]
    ratio = assignment.Ratio.model_validate(split["ratio"])
    side_of = (
        {Path(row["path"]).stem: row["split"] for row in files.read_csv("data/manifest.csv")} if name == STATES else {}
    )

    def side(path: str) -> str:
        content = files.sha256((folder / path).read_bytes())
        by_hash = assignment.by_hash(assignment.Image(path, path, "", content, b""), ratio, split["salt"])
        return side_of.get(Path(path).stem, by_hash)

    paths = [path for path in list_images(folder) if side(path) != "test"]
    return load_folder(folder, RESOLUTION[name], 4096, paths=paths)


def hits(probabilities: np.ndarray, images: Folder, held: np.ndarray, merged: bool) -> np.ndarray:
    """Whether the most probable class of each held-out image is its own; bool (N,)."""
    names = np.array([label.rsplit("-", 1)[-1] if merged else label for label in images.classes])
    found: np.ndarray = names[probabilities.argmax(1)] == names[images.labels[held]]
    return found


def train(
    name: str,
    images: Folder,
    learn: np.ndarray,
    held: np.ndarray,
    changes: dict[str, Any],
    others: dict[str, Any],
) -> tuple[np.ndarray, np.ndarray]:
    """Train on the images `learn`, and return what the last epoch says of the images `held`: float64 (N, classes), twice.

    First averaged over the flips, as evaluate does, then of the image itself.
    """
    section = params.tree_of_params()[f"train_{name}"]
    tree = section | changes | {"augment": section["augment"] | changes.get("augment", {})}
    train_on, judged = part(images, learn), part(images, held)
    model, optimizer, task = {"finetune": finetune, "scratch": scratch}[name](tree, train_on, judged, others)
    learner = Trial(model, optimizer, task, others)
    for epoch in range(1, task.recipe.epochs + 1):
        learner.shrinks = epoch <= others.get("small_epochs", 0)
        loop.train_epoch(learner, task, epoch)
    scored: Any = learner.scored
    logits, _ = look(scored, judged.pixels, task.about, RUN)
    return calibrated(logits, 1.0).numpy(), logits[0].double().softmax(1).numpy()


def part(images: Folder, chosen: np.ndarray) -> Folder:
    """Some of the images."""
    return Folder(images.pixels[chosen], images.labels[chosen], [images.paths[at] for at in chosen], images.classes)


def finetune(tree: dict[str, Any], learn: Folder, held: Folder, others: dict[str, Any]) -> Any:
    """As the stage train_finetune."""
    recipe = train_finetune.Params.model_validate(tree)
    pretrained = load_pretrained(recipe.backbone, recipe.weights, recipe.fingerprint)
    about = about_of(learn, recipe.augment, pretrained.mean, pretrained.std)
    torch.manual_seed(RUN.seed)
    model = with_new_head(pretrained, recipe.backbone, len(learn.classes), recipe.pooling, recipe.dropout)
    optimizer = optimizers.build(
        recipe, [*layers(model.backbone, recipe.lr, others.get("decay", 1.0)), (model.head, recipe.head_lr)]
    )
    fixed = others.get("fixed_statistics", True)
    return model, optimizer, loop.Task("train_finetune", learn, held, recipe, about, RUN, fixed_statistics=fixed)


def layers(backbone: Any, lr: float, decay: float) -> list[tuple[nn.Module, float]]:
    """The parts of an EfficientNet of timm, each with its learning rate: `decay` times that of the part after it."""
    if decay == 1.0:
        return [(backbone, lr)]
    depth = [
        nn.ModuleList([backbone.conv_stem, backbone.bn1]),
        *backbone.blocks,
        nn.ModuleList([backbone.conv_head, backbone.bn2]),
    ]
    return [(layer, lr * decay ** (len(depth) - 1 - at)) for at, layer in enumerate(depth)]


def scratch(tree: dict[str, Any], learn: Folder, held: Folder, others: dict[str, Any]) -> Any:
    """As the stage train_scratch."""
    recipe = train_scratch.Params.model_validate(tree)
    pixels = learn.pixels.reshape(-1, 3)[::7]
    mean, std = ((pixels.mean(0) / 255).tolist(), (pixels.std(0) / 255).tolist())
    run = RUN.model_copy(update={"shards": others.get("shards", RUN.shards)})
    torch.manual_seed(run.seed)
    blocks = min(recipe.blocks, int(np.log2(learn.pixels.shape[1])) - 1)
    model = small_cnn.small_cnn(len(learn.classes), recipe.width, blocks, recipe.dropout)
    about = about_of(learn, recipe.augment, mean, std)
    return (
        model,
        optimizers.build(recipe, [(model, recipe.lr)]),
        loop.Task("train_scratch", learn, held, recipe, about, run),
    )


def about_of(learn: Folder, how: Any, mean: list[float], std: list[float]) -> About:
    """How pixels become the network's input."""
    return About("", "", {}, learn.classes, learn.pixels.shape[1], flips(how), mean, std, curves=False)


class Trial(loop.Learner):
    """A learner that can do what is not in params.yaml.

    Attributes:
        shrinks: Whether the images are made smaller in this epoch.
    """

    def __init__(self, model: Any, optimizer: torch.optim.Optimizer, task: loop.Task, others: dict[str, Any]) -> None:
        super().__init__(model, optimizer, task)
        self.shrinks = False
        self.alpha = others.get("mixup", 0.0)
        self.shares = np.random.default_rng(task.run.seed)

    def part(self, images: Tensor, labels: Tensor, of_batch: Tensor, running: Statistics) -> list[Tensor]:
        """As that of every learner, on small images, or on pairs that are mixed (mixup, Zhang et al. 2018)."""
        if self.shrinks:
            side = SMALL[images.shape[-1]]
            images = nn.functional.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
        if not self.alpha:
            return super().part(images, labels, of_batch, running)
        share = float(self.shares.beta(self.alpha, self.alpha))  # of a shard
        logits = self.model(share * images + (1 - share) * images.flip(0)).float()
        smoothing = self.task.recipe.label_smoothing
        both = [
            nn.functional.cross_entropy(logits, wanted, label_smoothing=smoothing, reduction="sum")
            for wanted in (labels, labels.flip(0))
        ]
        loss = (share * both[0] + (1 - share) * both[1]) / len(of_batch)
        self.gradient.zero_()
        loss.backward()
        hits = (logits.argmax(1) == labels).sum()
        loss_and_hits = torch.stack([loss.detach() * len(of_batch), hits])
        return [self.gradient.clone(), running.of_shard(len(labels) / len(of_batch)), loss_and_hits]


main()
