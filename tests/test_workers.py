"""The number of workers and machines leaves no trace, and a worker that is lost costs no finished epoch."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from conftest import PARAMS, ROOT, RUN, STAGE, run, set_params, surroundings
from darkroom.data.images import Folder
from darkroom.networks.checkpoint import About
from darkroom.networks.classifier import Classifier
from darkroom.networks.forward import as_input
from darkroom.system import workers
from darkroom.system.errors import UserError
from darkroom.training import batch_norm, team
from darkroom.training.augmentation import Augment
from darkroom.training.loop import Learner, Task, batches, class_weights
from darkroom.training.recipe import Recipe
from test_resume import OUTS, outs, read_until, start

SHARDS: dict[str, dict[str, object]] = {
    "run": {"shards": 4},
    "train_scratch": {"epochs": 3, "ema": 0.9, "dropout": 0.5, "class_weights": "balanced"},
}


@pytest.mark.fast
def test_a_tree_of_sums_is_that_of_its_halves() -> None:
    """In float32 another order gives other bytes; minus zero stays minus zero."""
    leaves = torch.randn(8, 10_000, generator=torch.Generator().manual_seed(0))
    leaves[:, 0] = -0.0

    def total(some: torch.Tensor) -> bytes:
        return workers.tree_sum([leaf.clone()] for leaf in some)[0].numpy().tobytes()

    pairs = leaves[::2] + leaves[1::2]
    fours = pairs[::2] + pairs[1::2]
    assert total(leaves) == total(pairs) == total(fours) == (fours[0] + fours[1]).numpy().tobytes()
    assert total(leaves) != leaves.cumsum(0)[-1].numpy().tobytes()
    assert np.signbit(np.frombuffer(total(leaves), np.float32)[0])


@pytest.mark.fast
def test_running_statistics_follow_the_means_over_shards() -> None:
    """As torch's own BatchNorm, given the mean of the shards' means and variances; the layer is then as it was."""
    torch.manual_seed(0)
    layer = nn.BatchNorm1d(3, momentum=0.2)
    shards = torch.randn(3, 8, 3).unbind()
    with batch_norm.statistics(layer) as running:
        for _ in range(2):
            parts = []
            for shard in shards:
                layer(shard)
                parts.append(running.of_shard(1 / 3))
            running.update(sum(parts[1:], parts[0]))
    mean, variance = torch.stack(shards).mean((0, 1)), torch.stack([shard.var(0) for shard in shards]).mean(0)
    torch.testing.assert_close(layer.running_mean, mean * (1 - 0.8**2))
    torch.testing.assert_close(layer.running_var, 0.8**2 + variance * (1 - 0.8**2))
    assert (layer.momentum, int(layer.num_batches_tracked)) == (0.2, 2)  # type: ignore[arg-type]


@pytest.mark.fast
def test_the_gradient_of_shards_is_that_of_the_whole_batch() -> None:
    """By torch's own mean of the weighted, smoothed loss of one batch of 30 images; four shards, of which one is smaller."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())["train_scratch"]
    keys = {key: tree[key] for key in Recipe.model_fields}
    recipe = Recipe.model_validate(keys | {"batch_size": 30, "class_weights": "balanced", "label_smoothing": 0.1})
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    folder = Folder(pixels, random.choice(3, 30, p=[0.6, 0.3, 0.1]), [], ["a", "b", "c"])
    about = About("", "", {}, folder.classes, 8, [], [0.5] * 3, [0.2] * 3, curves=False)
    model = Classifier(nn.Flatten(), nn.Linear(192, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    still = {key: type(value)(0) for key, value in recipe.augment.model_dump().items()}
    recipe = recipe.model_copy(update={"augment": Augment.model_validate(still)})
    task = Task("train_scratch", folder, folder, recipe, about, RUN.model_copy(update={"shards": 4}))
    inputs, labels = as_input(pixels, about, task.run), torch.from_numpy(folder.labels)
    weight = class_weights(task)
    loss = nn.functional.cross_entropy(model(inputs), labels, weight, label_smoothing=0.1)
    expected = torch.autograd.grad(loss, list(model.parameters()))

    learner = Learner(model, optimizer, task)
    with batch_norm.statistics(model) as running:
        [(of_batch, shards)] = batches(task, 1, learner.pixels)
        gradient, _, sums = workers.tree_sum(learner.part(images, some, of_batch, running) for images, some in shards)
    torch.testing.assert_close(gradient, torch.cat([torchs.flatten() for torchs in expected]))
    assert float(sums[0]) == pytest.approx(30 * loss.item())
    assert float(sums[1]) == int((model(inputs).argmax(1) == labels).sum())


def train(project: Path, name: str, code: int = 0, **variables: str) -> str:
    return run("python", STAGE, f"train_{name}", cwd=project, code=code, **variables)


def removed(project: Path, name: str) -> list[bytes]:
    """The outs of a training, which are then gone, with the state that was kept."""
    made = outs(project, name)
    for out in OUTS:
        (project / out.format(name)).unlink()
    shutil.rmtree(project / ".darkroom/state")
    return made


@pytest.mark.parametrize(("name", "counts"), [("scratch", [1, 2, 4]), ("finetune", [1, 2])])
def test_any_number_of_workers_gives_the_same_bytes(parted: Path, name: str, counts: list[int]) -> None:
    """With a running average, dropout, weighted classes, and BatchNorm by shard or fixed; val is shared, too."""
    recipe = {"epochs": 2, "ema": 0.9, "dropout": 0.5, "class_weights": "balanced"}
    set_params(parted, {"run": {"shards": 4}, f"train_{name}": recipe})
    made = []
    for count in counts:
        assert (f"{count} workers" in train(parted, name, DARKROOM_WORKERS=str(count))) == (count > 1)
        made.append(removed(parted, name))
    assert all(one == made[0] for one in made)


def test_fewer_images_than_shards(parted: Path) -> None:
    """Shards are empty then, for one worker and for a second one that has nothing else."""
    recipe = {"epochs": 1, "batch_size": 3, "augment": {**PARAMS["train_scratch"]["augment"], "rotation": 10.0}}
    set_params(parted, {"run": {"shards": 8}, "train_scratch": recipe})
    made = []
    for count, command in (("1", ("python", STAGE)), ("2", ("darkroom",))):  # both start the stage
        run(*command, "train_scratch", cwd=parted, DARKROOM_WORKERS=count)
        made.append(removed(parted, "scratch"))
    assert made[0] == made[1]


def test_a_worker_that_is_killed_ends_the_others_and_the_next_run_goes_on(parted: Path) -> None:
    set_params(parted, {**SHARDS, "train_scratch": {**SHARDS["train_scratch"], "epochs": 40}})
    train(parted, "scratch", DARKROOM_WORKERS="1")
    expected = removed(parted, "scratch")
    first = start("env", "DARKROOM_WORKERS=2", "python", str(STAGE), "train_scratch", cwd=parted)
    read_until(first, "epoch   1/40")
    [second] = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    os.kill(int(second), signal.SIGKILL)
    printed, _ = first.communicate(timeout=60)
    assert first.returncode == 2
    assert "a worker of this training is gone" in printed
    assert "Traceback" not in printed
    printed = train(parted, "scratch", DARKROOM_WORKERS="4")
    assert "going on after epoch" in printed
    assert "epoch  40/40" in printed  # else the kill came too late
    assert outs(parted, "scratch") == expected


def test_a_worker_that_reads_other_params_is_refused(parted: Path) -> None:
    """They are edited after the first worker has read them. The second would train with another learning rate."""
    set_params(parted, SHARDS)
    first = start("env", "DARKROOM_WORKERS=2", "python", str(STAGE), "train_scratch", cwd=parted)
    read_until(first, "2 workers")  # the second has only been started
    set_params(parted, {"train_scratch": {"lr": 0.04}})
    printed, _ = first.communicate(timeout=60)
    assert first.returncode == 2
    assert "a worker differs from the first in params" in printed
    assert not list((parted / ".darkroom").glob("state/**/*.pt"))


@pytest.mark.fast
def test_more_workers_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = RUN.model_copy(update={"device": "cuda", "shards": 4})
    monkeypatch.delenv("DARKROOM_WORKERS")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert team.numbers(settings) == (1, 2)
    monkeypatch.setenv("DARKROOM_WORKERS", "4")
    with pytest.raises(UserError, match="4 workers need a GPU each, and this machine has 3"):
        team.numbers(settings)


def test_numbers_that_do_not_fit_are_refused(parted: Path) -> None:
    set_params(parted, {"run": {"shards": 4}})
    assert "must be a power of two of at most 4" in train(parted, "scratch", code=2, DARKROOM_WORKERS="3")
    assert "must be a power of two of at most 4" in train(parted, "scratch", code=2, DARKROOM_WORKERS="8")
    assert "whole number from 1" in train(parted, "scratch", code=2, DARKROOM_WORKERS="two")
    set_params(parted, {"run": {"shards": 3}})
    assert "3 is not a power of two" in train(parted, "scratch", code=2)


def first_of_two_machines(project: Path, port: int, **variables: str) -> "subprocess.Popen[str]":
    """A training that waits for another machine."""
    variables |= {"NNODES": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONUNBUFFERED": "1"}
    first = subprocess.Popen(
        ["python", str(STAGE), "train_scratch"], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=surroundings(**variables),
    )  # fmt: skip
    read_until(first, f"darkroom join 127.0.0.1:{port}")
    return first


def test_two_machines_give_the_bytes_of_one_and_a_third_that_differs_is_refused(parted: Path, tmp_path: Path) -> None:
    """Two folders, each with two workers, and processes that meet on loopback."""
    set_params(parted, SHARDS)
    other, differing = (Path(shutil.copytree(parted, tmp_path / name)) for name in ("other machine", "differing"))
    set_params(differing, {"train_scratch": {"lr": 0.04}})
    train(parted, "scratch", DARKROOM_WORKERS="1")
    expected = removed(parted, "scratch")

    first = first_of_two_machines(parted, 29617, DARKROOM_WORKERS="2")
    refused = run("darkroom", "join", "127.0.0.1:29617", cwd=differing, code=2)
    assert "this machine differs from 127.0.0.1:29617 in params" in refused
    joined = start("darkroom", "join", "127.0.0.1:29617", cwd=other)
    printed, _ = first.communicate(timeout=120)
    assert first.returncode == 0, printed
    assert "a machine was refused: it differs in params" in printed
    assert outs(parted, "scratch") == expected
    read_until(joined, "train_scratch has ended")
    joined.send_signal(signal.SIGINT)
    assert joined.wait(30) == 0
    assert not list((other / "models").glob("*.pth"))


def test_a_machine_waits_for_the_next_run_after_a_training_that_diverged(parted: Path, tmp_path: Path) -> None:
    set_params(parted, {"run": {"shards": 4}, "train_scratch": {"lr": 1000.0, "weight_decay": 1000.0}})
    other = Path(shutil.copytree(parted, tmp_path / "other machine"))
    first = first_of_two_machines(parted, 29618, DARKROOM_WORKERS="1")
    joined = start("darkroom", "join", "127.0.0.1:29618", cwd=other)
    printed, _ = first.communicate(timeout=120)
    assert first.returncode == 2
    assert "the training diverged" in printed
    read_until(joined, "ended early; waiting for its next run")
    joined.send_signal(signal.SIGINT)
    assert joined.wait(30) == 0


def test_an_address_that_nobody_has(parted: Path, tmp_path: Path) -> None:
    assert "the host 'no-such-host.invalid' is not known here" in run(
        "darkroom", "join", "no-such-host.invalid:29500", cwd=parted, code=2
    )
    assert "run from the project's top folder" in run(
        "darkroom", "join", "127.0.0.1:29500", cwd=tmp_path.parent, code=2
    )
