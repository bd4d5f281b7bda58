"""Errors that a user can cause and mend."""


class UserError(Exception):
    """One sentence for the user: what is wrong, where, and what to do.

    `darkroom.runner` and `darkroom.cli` print it without a traceback and exit with 2.
    Anything else that is raised is a bug and keeps its traceback.
    """
