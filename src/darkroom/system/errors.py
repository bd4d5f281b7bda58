"""Errors that a user can cause and mend."""

import errno
from pathlib import Path

# What a user can do about an OSError that is not a bug.
WAYS_OUT = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room and run it again; finished epochs are kept"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "let yourself read and write there"),
    **dict.fromkeys((errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP), "move away what is in the way"),
    errno.ENAMETOOLONG: "give it a shorter name",
}


class UserError(Exception):
    """One sentence for the user: what is wrong, where, and what to do.

    The runner and the command line print it without a traceback and exit with 2. Any other exception is a bug and keeps its
    traceback.
    """


class LostWorkerError(UserError):
    """A process that shares the work is gone. The others end, too, and the next run goes on."""


def in_words(error: Exception) -> str | None:
    """The sentence of a `UserError`, or one about a full disk or memory and the like. None for any other error: a bug."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in WAYS_OUT:
        return f"{error.filename or Path.cwd()} cannot be used ({error.strerror}): {WAYS_OUT[error.errno]}"
    # torch's error on a GPU is known by its name, and that on a CPU by its text: most stages do not import torch.
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    ):
        return "the memory is full: end other programs, or lower batch_size or images.resolution in params.yaml"
    return None
