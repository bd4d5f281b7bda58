"""How the workers of a training find each other, on one machine or on many.

The first worker of the first machine is the stage itself. It decides how many workers there are, and whether another machine may
take part: only if the same code would train the same model on the same images there. It does not ask who is there, and nothing
that is sent is encrypted; docs/how-to/more-cores.md says how to run it safely.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed as dist
from torch.distributed import FileStore, HashStore, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from darkroom.system import parallel, role
from darkroom.system.errors import LostWorkerError, UserError
from darkroom.system.params import Run
from darkroom.system.role import Role
from darkroom.training.loop import Task

PACKAGE = Path(__file__).parents[1]
MEETING = Path(".darkroom/meeting")  # of the workers of one machine; no port is opened to others
PATIENCE = timedelta(minutes=10)  # of a worker that waits for another one that is alive, but does not answer


@contextmanager
def together(task: Task, known: Mapping[str, str]) -> Iterator[None]:
    """Have as many workers as fit for the time of the block. With one, nothing happens.

    Args:
        task: What is trained. The threads and shards of its `run` limit the workers.
        known: A digest of each thing that must be the same on each machine (`loop.identity`).

    Raises:
        UserError: A variable of the environment makes no sense, or this machine is refused.
        LostWorkerError: A worker ends before the block begins.
    """
    asked = role.of_this_process()
    if asked is None:
        me, store, siblings = _first(task, known)
    elif asked.rank is None:
        me, store, siblings = _asking(task, known, asked)
    else:
        me, store, siblings = asked, _store(asked.meeting), []
    if me.count == 1:
        yield
        return
    try:
        _enter(me, store, siblings, task.run)
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        for sibling in siblings:
            _end(sibling)


def _first(task: Task, known: Mapping[str, str]) -> tuple[Role, Store, list[subprocess.Popen[bytes]]]:
    """What the stage does that DVC started: open the meeting, start the workers of this machine, and let other machines in."""
    machines, shards = _number("NNODES", 1), task.run.shards
    each = _number("DARKROOM_WORKERS", 0) or fitting(task.run, machines)
    count = machines * each
    if count & (count - 1) or count > shards:
        raise UserError(
            f"{machines} machines with {each} workers are {count} workers, but their number must be a power of two of at most "
            f"{shards}, which is run.shards in params.yaml: change DARKROOM_WORKERS, NNODES or run.shards"
        )
    MEETING.parent.mkdir(exist_ok=True)
    MEETING.unlink(missing_ok=True)
    address = str(MEETING)
    if machines > 1:
        address = f"{os.environ.get('MASTER_ADDR', '127.0.0.1')}:{_number('MASTER_PORT', 29500)}"
    elif count > 1:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo" if sys.platform == "linux" else "lo0"
    me = Role(address, 0, 0, count, {})
    if count == 1:
        return me, HashStore(), []
    store = _store(address, opens=True)
    siblings = _siblings(task, me, each)
    if machines > 1:
        store.set("stage", task.stage)
        _let_in(store, machines, each, known, address)
    return me, store, siblings


def fitting(run: Run, machines: int) -> int:
    """The workers for this machine: a power of two, one for each GPU or for each `run.threads` cores, and `run.shards` in all."""
    units = torch.cuda.device_count() if run.device == "cuda" else parallel.cores() // run.threads
    most = max(1, min(units, run.shards // machines))
    return 1 << (most.bit_length() - 1)


def _let_in(store: Store, machines: int, each: int, known: Mapping[str, str], address: str) -> None:
    """Wait until `machines` take part. One that differs is told in what."""
    inside, answered = 1, 0
    print(f"waiting for {machines - 1} more: `darkroom join {address}` on each of the other machines", flush=True)
    while inside < machines:
        if store.add("machines", 0) == answered:
            time.sleep(0.2)
            continue
        answered += 1
        theirs = json.loads(store.get(f"machine {answered}"))
        differing = [what for what in known if known[what] != theirs.get(what)]
        answer = (
            {"differing": differing} if differing else {"rank": inside * each, "each": each, "count": machines * each}
        )
        store.set(f"answer {answered}", json.dumps(answer))
        inside += not differing
    print(f"{machines} machines with {each} workers each", flush=True)


def _asking(task: Task, known: Mapping[str, str], asked: Role) -> tuple[Role, Store, list[subprocess.Popen[bytes]]]:
    """What the first worker of a further machine does: ask to take part, and start the other workers of this machine.

    Raises:
        UserError: The first machine has other code, params, packages or images.
    """
    store = _store(asked.meeting)
    number = store.add("machines", 1)
    store.set(f"machine {number}", json.dumps(dict(known)))
    try:
        answer = json.loads(store.get(f"answer {number}"))
    except RuntimeError:
        raise LostWorkerError(
            f"{asked.meeting} has not let this machine in: it has enough machines, or has ended"
        ) from None
    if differing := answer.get("differing"):
        raise UserError(
            f"this machine has other {' and other '.join(differing)} than {asked.meeting}: have the same commit there and here, "
            "the same params.yaml, `make setup`, and the same images (`dvc pull`, `dvc repro split stats`)"
        )
    me = replace(asked, rank=answer["rank"], count=answer["count"])
    return me, store, _siblings(task, me, answer["each"])


def _siblings(task: Task, first: Role, each: int) -> list[subprocess.Popen[bytes]]:
    """Start the workers of this machine but the first. They map the pixels that the first has decoded."""
    assert first.rank is not None
    sides = {"train": task.train, "val": task.val}
    pixels = {side: folder.file.fileno() for side, folder in sides.items() if folder.file}
    return [
        subprocess.Popen(
            [sys.executable, str(PACKAGE), task.stage],
            env=replace(first, rank=first.rank + local, local=local, pixels=pixels).environment(),
            pass_fds=list(pixels.values()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for local in range(1, each)
    ]


def _enter(me: Role, store: Store, siblings: Sequence[subprocess.Popen[bytes]], run: Run) -> None:
    """Join the group of all workers."""
    assert me.rank is not None
    store.set(f"ready {me.rank}", "")
    awaited = [f"ready {me.rank + number}" for number in range(1, len(siblings) + 1)]
    while awaited and not store.check(awaited):
        if any(sibling.poll() is not None for sibling in siblings):
            raise LostWorkerError(
                "a worker ended before the training began: see its own message, free memory if the system killed it, or set "
                "DARKROOM_WORKERS=1"
            )
        time.sleep(0.05)
    if run.device == "cuda":
        torch.cuda.set_device(me.local)
    group = PrefixStore("group", store)
    backend = "nccl" if run.device == "cuda" else "gloo"
    dist.init_process_group(backend, store=group, rank=me.rank, world_size=me.count, timeout=PATIENCE)


def _store(address: str, opens: bool = False) -> Store:
    """The meeting at `address`.

    Raises:
        UserError: Its port cannot be opened.
        LostWorkerError: Nobody is there.
    """
    host, _, port = address.rpartition(":")
    if not host:
        return FileStore(address)  # waits, and raises nothing, if its folder is missing
    try:
        return TCPStore(
            "127.0.0.1" if opens else host, int(port), is_master=opens, wait_for_workers=False, timeout=PATIENCE
        )
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        if opens:
            raise UserError(f"port {port} cannot be opened ({reason}): set MASTER_PORT to a free one") from None
        raise LostWorkerError(f"nobody is at {address} ({reason})") from None


def _number(variable: str, default: int) -> int:
    """The positive whole number in a variable of the environment.

    Raises:
        UserError: It is something else.
    """
    text = os.environ.get(variable, "")
    if text and not (text.isdecimal() and int(text)):
        raise UserError(f"the variable {variable} is {text!r}: set it to a whole number from 1, or unset it")
    return int(text) if text else default


def _end(worker: subprocess.Popen[bytes]) -> None:
    """End a worker that does not end by itself."""
    try:
        worker.wait(10)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()
