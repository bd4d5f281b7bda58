"""Taking part in the trainings of another machine.

`dvc repro` runs on the first machine. When one of its stages trains, it opens a TCPStore of torch, and what waits here runs the
same stage as a further worker (`training/team.py`). Between two trainings nobody listens there.
"""

import contextlib
import socket
import subprocess
import sys
import time
from datetime import timedelta

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from darkroom.system import git, params, role
from darkroom.system.errors import UserError
from darkroom.training.team import PACKAGE

PAUSE = 1.0  # seconds between two looks


def join(address: str) -> None:
    """Take part in each training of the project at `address`, HOST:PORT, until this is interrupted.

    Raises:
        UserError: The address is none, this is no project's top folder, or the first machine refuses this one.
    """
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise UserError(f"{address!r} is no address: say HOST:PORT, as the first machine prints it")
    git.refuse_elsewhere()
    try:
        socket.getaddrinfo(host, int(port))
    except OSError as error:
        raise UserError(
            f"the host {host!r} is not known here ({error.strerror}): mend its name, or say its number"
        ) from None
    print(f"waiting for a training at {address} (Ctrl-C ends it)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            if stage := _stage(host, int(port)):
                _take_part(stage, address)
            time.sleep(PAUSE)


def _stage(host: str, port: int) -> str | None:
    """The stage that trains there now, or None."""
    try:
        socket.create_connection((host, port), 5).close()  # torch writes pages of warnings where nobody listens
        store = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=10))
        return str(store.get("stage").decode())
    except (OSError, RuntimeError):
        return None


def _take_part(stage: str, address: str) -> None:
    """Run `stage` as a further worker.

    Raises:
        UserError: There is no such training, or the first machine refuses this one.
    """
    if stage not in [f"train_{name}" for name in params.models()]:
        raise UserError(f"{address} trains {stage!r}, which is no training here: have the same commit there and here")
    print(f"taking part in {stage}", flush=True)
    asking = role.Role(address, None, 0, 1, 1, {})
    code = subprocess.call([sys.executable, str(PACKAGE), stage], env=asking.environment(), stdout=subprocess.DEVNULL)
    match code:
        case 0:
            print(f"{stage} has ended", flush=True)
        case 3:  # runner.LOST: a worker was lost, or the first machine trains something else by now
            print(f"{stage} ended early; waiting for its next run", flush=True)
        case _ if code < 0:
            print(
                f"the system has ended {stage} here by signal {-code}, perhaps for lack of memory; waiting for its next run"
            )
        case _:
            raise UserError(f"this machine takes no part in {stage}: the message above says why")
