"""How the workers of a training find each other, on one machine or on many.

The first worker of the first machine is the stage itself. It decides how many workers there are, and whether another machine may
take part: only if the same code would train the same model on the same images there. It does not ask who is there, and nothing
that is sent is encrypted; docs/how-to/more-cores.md says how to run it safely.
"""

import json
import os
import socket
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
from torch.distributed import FileStore, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from darkroom.system import parallel, role
from darkroom.system.errors import LostWorkerError, UserError
from darkroom.system.params import Run
from darkroom.system.role import Role
from darkroom.training.loop import Task

PACKAGE = Path(__file__).parents[1]
# Of the workers of one machine, a file for each stage: no port is opened to others.
MEETINGS = Path(".darkroom/meetings")
PATIENCE = timedelta(minutes=10)  # of a worker that waits for another one that is alive, but does not answer
GONE = (
    "a worker ended before the training began, or another machine cannot be reached: free memory if the system killed it, set "
    "DARKROOM_WORKERS=1, or see docs/how-to/more-cores.md on ports and network interfaces"
)


@contextmanager
def together(task: Task, known: Mapping[str, str]) -> Iterator[None]:
    """Have as many workers as fit for the time of the block. With one, nothing happens.

    Args:
        task: What is trained. The threads and shards of its `run` limit the workers.
        known: A digest of each thing that must be the same in each worker (`loop.identity`).

    Raises:
        UserError: A variable of the environment makes no sense, or this worker would train another model than the first.
        LostWorkerError: A worker ends before the block begins; or the training fails, and this is not the first worker.
    """
    asked = role.of_this_process()
    machines, each = (1, 1) if asked else numbers(task.run)
    if asked is None and machines * each == 1:
        yield
        return
    siblings: list[subprocess.Popen[bytes]] = []
    try:
        if asked is None:
            me, store = _open(task, known, machines, each)
        else:
            store = _store(asked.meeting)
            me = asked if asked.rank is not None else _let_in(store, task, known, asked)
        if me.local == 0:
            siblings += _siblings(task, me)
        _enter(me, store, siblings, task.run, known)
        try:
            yield
        except UserError as error:
            if asked is None:
                raise
            # The first worker says why; this one can take part in the next run.
            raise LostWorkerError(str(error)) from None
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        for sibling in siblings:
            _end(sibling)


def numbers(run: Run) -> tuple[int, int]:
    """The number of machines, and of the workers of each.

    Raises:
        UserError: They are no power of two, or more than `run.shards`, or than the GPUs of this machine.
    """
    machines = _number("NNODES", 1)
    each = _number("DARKROOM_WORKERS", 0) or fitting(run, machines)
    count = machines * each
    if count & (count - 1) or count > run.shards:
        raise UserError(
            f"there are {count} workers in all (NNODES {machines}, DARKROOM_WORKERS {each}), but their number must be a power of "
            f"two of at most {run.shards}, which is run.shards in params.yaml: change one of the three"
        )
    _check_gpus(run, each)
    return machines, each


def _check_gpus(run: Run, each: int) -> None:
    """Refuse more workers than this machine has GPUs, if they compute on GPUs: NCCL takes one worker for each.

    Raises:
        UserError: There are more.
    """
    if run.device == "cuda" and each > (gpus := torch.cuda.device_count()):
        raise UserError(
            f"{each} workers need a GPU each, and this machine has {gpus}: set DARKROOM_WORKERS to {max(1, gpus)} or less "
            "where `dvc repro` runs"
        )


def fitting(run: Run, machines: int) -> int:
    """The workers for this machine: a power of two, one for each GPU or for each `run.threads` cores, and `run.shards` in all."""
    units = torch.cuda.device_count() if run.device == "cuda" else parallel.cores() // run.threads
    most = max(1, min(units, run.shards // machines))
    return 1 << (most.bit_length() - 1)


def _open(task: Task, known: Mapping[str, str], machines: int, each: int) -> tuple[Role, Store]:
    """Open the meeting, and wait until all machines take part. One that asks for another stage, or differs, is told so."""
    if machines == 1:
        MEETINGS.mkdir(parents=True, exist_ok=True)
        address = str(MEETINGS / task.stage)
        Path(address).unlink(missing_ok=True)
        os.environ["GLOO_SOCKET_IFNAME"] = "lo" if sys.platform == "linux" else "lo0"
    else:
        address = f"{os.environ.get('MASTER_ADDR', socket.gethostname())}:{_number('MASTER_PORT', 29500)}"
    store = _store(address, opens=True)
    store.set("known", json.dumps(dict(known)))
    store.set("each", str(each))
    store.set("stage", task.stage)
    inside, answered = 1, 0
    if machines > 1:
        print(
            f"waiting for {machines - 1} more: `darkroom join {address}` on each of the other machines; NNODES says how many",
            flush=True,
        )
    while inside < machines:
        if not store.check([f"machine {answered + 1}"]):
            time.sleep(0.2)
            continue
        answered += 1
        theirs = json.loads(store.get(f"machine {answered}"))
        if not (same := theirs == known):
            print(f"a machine was refused: it differs in {' and '.join(_differing(known, theirs))}", flush=True)
        me = {"rank": inside * each, "each": each, "count": machines * each} if same else None
        store.set(f"answer {answered}", json.dumps(me))
        inside += same
    print(f"{machines * each} workers", flush=True)
    # MASTER_ADDR may be a name that only other machines can use.
    meeting = address if machines == 1 else f"127.0.0.1:{address.rpartition(':')[2]}"
    return Role(meeting, 0, 0, each, machines * each, {}), store


def _let_in(store: Store, task: Task, known: Mapping[str, str], asked: Role) -> Role:
    """Ask the first machine to let this one take part. The answer is the role of the first worker here.

    Raises:
        UserError: This machine would train another model, or has fewer GPUs than the first has workers.
        LostWorkerError: The first machine has ended, trains another stage, or has enough machines.
    """
    try:
        if store.get("stage").decode() != task.stage:
            raise LostWorkerError(f"{asked.meeting} trains another stage by now")
        theirs = json.loads(store.get("known"))
        _check_gpus(task.run, int(store.get("each")))
        number = store.add("machines", 1)
        store.set(f"machine {number}", json.dumps(dict(known)))
        answer = json.loads(store.get(f"answer {number}"))
    except RuntimeError:
        raise LostWorkerError(
            f"{asked.meeting} has not let this machine in: it has enough machines, or has ended"
        ) from None
    _compare(known, theirs, f"this machine differs from {asked.meeting}")
    return replace(asked, **answer)


def _compare(known: Mapping[str, str], theirs: Mapping[str, str], what: str) -> None:
    """Refuse to work with a worker that would train another model. `what` begins the message.

    Raises:
        UserError: It would.
    """
    if differing := _differing(known, theirs):
        raise UserError(
            f"{what} in {' and '.join(differing)}: have the same commit on all machines, the same params.yaml, `make setup`, and "
            "the same images (`dvc pull`, `dvc repro split stats`), and change none of them while a training starts"
        )


def _differing(known: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    return [name for name in known if known[name] != theirs.get(name)]


def _siblings(task: Task, first: Role) -> Iterator[subprocess.Popen[bytes]]:
    """Start the workers of this machine but the first. They map the pixels that the first has decoded."""
    assert first.rank is not None
    sides = {"train": task.train, "val": task.val}
    pixels = {side: folder.file.fileno() for side, folder in sides.items() if folder.file}
    for local in range(1, first.each):
        yield subprocess.Popen(
            [sys.executable, str(PACKAGE), task.stage],
            env=replace(first, rank=first.rank + local, local=local, pixels=pixels).environment(),
            pass_fds=list(pixels.values()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )


def _enter(
    me: Role, store: Store, siblings: Sequence[subprocess.Popen[bytes]], run: Run, known: Mapping[str, str]
) -> None:
    """Join the group of all workers. The first waits until all of them are there, and compares them with itself.

    Raises:
        UserError: One read other files than the first, because they were changed meanwhile.
        LostWorkerError: One does not come.
    """
    assert me.rank is not None
    store.set(f"ready {me.rank}", json.dumps(dict(known)))
    awaited = [f"ready {rank}" for rank in range(me.count)] if me.rank == 0 else []
    latest = time.monotonic() + PATIENCE.total_seconds()
    while awaited and not store.check(awaited):
        if any(sibling.poll() is not None for sibling in siblings) or time.monotonic() > latest:
            raise LostWorkerError(GONE)
        time.sleep(0.05)
    for key in awaited:
        _compare(known, json.loads(store.get(key)), "a worker differs from the first")
    try:
        if run.device == "cuda":
            torch.cuda.set_device(me.local)
        group = PrefixStore("group", store)
        backend = "nccl" if run.device == "cuda" else "gloo"
        dist.init_process_group(backend, store=group, rank=me.rank, world_size=me.count, timeout=PATIENCE)
    except RuntimeError:
        raise LostWorkerError(GONE) from None


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
