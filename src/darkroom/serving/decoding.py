"""A process that decodes images for `darkroom serve`: `python -m darkroom.serving.decoding RESOLUTION MEGAPIXELS FILE PARENT`.

It reads from standard input the length of a file (8 bytes, big-endian) and the file, and writes to standard output one of the
`REPLIES`, a length and so many bytes. It may crash, or be ended at any time: nothing else is in it.
"""

import contextlib
import os
import sys
import traceback
from pathlib import Path
from typing import BinaryIO

import numpy as np

from darkroom.inference.predict import pixels_of
from darkroom.system.process import end_with_parent

LENGTH = 8  # bytes of a length
READY, PIXELS, REASON, BUG = REPLIES = b"R", b"P", b"N", b"B"  # a bug's bytes are its traceback
BASE, PER_PIXEL = 2**30 * 3 // 2, 32  # bytes that the process may take; Pillow copies an image up to five times


def main() -> None:
    """Answer until standard input ends."""
    resolution, megapixels, file, parent = int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    end_with_parent(parent)
    _limit_memory(int(BASE + PER_PIXEL * megapixels * 1e6))
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no reply
    _send(replies, READY, b"")
    while length := sys.stdin.buffer.read(LENGTH):
        content = sys.stdin.buffer.read(int.from_bytes(length, "big"))
        try:
            _send(replies, *_answer(content, file, resolution, megapixels))
        except BrokenPipeError:
            return
        except Exception:
            _send(replies, BUG, traceback.format_exc().encode("utf-8", "replace"))


def _answer(content: bytes, file: Path, resolution: int, megapixels: float) -> tuple[bytes, bytes]:
    file.write_bytes(content)
    try:
        found = pixels_of(str(file), resolution, megapixels)
    finally:
        file.unlink()
    return (
        (PIXELS, np.ascontiguousarray(found).tobytes()) if isinstance(found, np.ndarray) else (REASON, found.encode())
    )


def _send(replies: BinaryIO, kind: bytes, content: bytes) -> None:
    replies.write(kind + len(content).to_bytes(LENGTH, "big") + content)
    replies.flush()


def _limit_memory(size: int) -> None:
    """Where the system can: Linux can. A file that takes more ends in a MemoryError here, and not in that of the server."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
