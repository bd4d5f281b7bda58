"""Decoding beside the server: a hostile file may crash, fill or stall a process, which is then replaced."""

import asyncio
import contextlib
import logging
import os
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from darkroom.serving import decoding
from darkroom.system import parallel

SECONDS = 20  # that a file may take
START_SECONDS = 120  # that a process may take to start, on a busy machine
SOURCE = Path(__file__).parents[2]  # where the package lies
LOG = logging.getLogger("uvicorn.error")


@dataclass
class Place:
    """Where a process decodes one file at a time.

    Attributes:
        file: The file that is being decoded. That of a process that was ended is written over.
        process: None if it must be started.
    """

    file: Path
    process: Process | None = None


@dataclass
class Decoders:
    """Processes that decode.

    Attributes:
        resolution: The side of the squares that they give.
        megapixels: Larger images are not decoded.
        idle: The places where nothing is decoded.
    """

    resolution: int
    megapixels: float
    idle: "asyncio.Queue[Place]"

    async def pixels(self, content: bytes) -> np.ndarray | str:
        """The image in a file, uint8 (resolution, resolution, 3), or the reason why it cannot be read."""
        place = await self.idle.get()
        try:
            reply = await self._reply(place, content) or await self._reply(place, content)
        except TimeoutError:
            return f"takes longer than {SECONDS} seconds to decode"
        finally:
            self.idle.put_nowait(place)
        match reply:
            case None:  # twice: once, a process may have been ended for want of memory elsewhere
                return "kills its decoder"
            case decoding.PIXELS, pixels:
                return np.frombuffer(pixels, np.uint8).reshape(self.resolution, self.resolution, 3)
            case decoding.REASON, reason:
                return reason.decode()
            case _, trace:
                LOG.error("an image could not be decoded:\n%s", trace.decode())
                return "cannot be decoded"

    async def _reply(self, place: Place, content: bytes) -> tuple[bytes, bytes] | None:
        """What the process at `place` replies to a file; None if it ends instead.

        Raises:
            TimeoutError: It takes too long.
        """
        reply = None
        try:
            process = await self.process_of(place)
            reply = await asyncio.wait_for(_ask(process, content), SECONDS)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:  # also if this request is cancelled: a reply that nobody reads would be taken for the next one
            if not reply:
                _end(place)
        return reply

    async def process_of(self, place: Place) -> Process:
        """The process of this place, which can take a file. It is started if it does not run."""
        if place.process:
            return place.process
        arguments = [self.resolution, self.megapixels, place.file, os.getpid()]
        place.process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-P", "-m", decoding.__name__, *map(str, arguments)],
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,  # libraries print there what a file tells them
            start_new_session=True,  # Ctrl-C is for the server, which ends its processes
            env=_environment(),
        )
        try:
            await asyncio.wait_for(_reply(place.process), START_SECONDS)
        except (TimeoutError, asyncio.IncompleteReadError):
            raise RuntimeError("a process that decodes images does not start") from None
        return place.process


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}  # BLAS has nothing to do there


@asynccontextmanager
async def running(resolution: int, megapixels: float) -> AsyncIterator[Decoders]:
    """Yield decoders, one for each core. They end with the block, and with this process, however it ends."""
    with tempfile.TemporaryDirectory(prefix="darkroom-") as folder:
        places = [Place(Path(folder) / f"image {number}") for number in range(parallel.cores())]
        decoders = Decoders(resolution, megapixels, asyncio.Queue())
        try:
            for place in places:
                await decoders.process_of(place)
                decoders.idle.put_nowait(place)
            yield decoders
        finally:
            for place in places:
                process = place.process
                _end(place)
                if process:
                    await process.wait()


async def _ask(process: Process, content: bytes) -> tuple[bytes, bytes]:
    """What the process replies to a file."""
    assert process.stdin
    process.stdin.write(len(content).to_bytes(decoding.LENGTH, "big"))
    process.stdin.write(content)
    await process.stdin.drain()
    return await _reply(process)


async def _reply(process: Process) -> tuple[bytes, bytes]:
    assert process.stdout
    kind = await process.stdout.readexactly(1)
    length = int.from_bytes(await process.stdout.readexactly(decoding.LENGTH), "big")
    return kind, await process.stdout.readexactly(length)


def _end(place: Place) -> None:
    """End the process, if one runs. The next file starts another one."""
    if place.process:
        with contextlib.suppress(ProcessLookupError):
            place.process.kill()
        place.process = None
