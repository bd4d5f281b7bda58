"""Errors that a user can cause and mend."""


class UserError(Exception):
    """One sentence for the user: what is wrong, where, and what to do.

    The runner and the command line print it without a traceback and exit with 2. Any other exception is a bug and keeps its
    traceback.
    """


class LostWorkerError(UserError):
    """A process that shares the work is gone. The others end, too, and the next run goes on."""
