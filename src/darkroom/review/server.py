"""`darkroom review`: the page on this machine."""

import os
import secrets
import sys
import webbrowser
from collections.abc import Collection

from darkroom.review import decisions, queue
from darkroom.review.queue import Kind
from darkroom.system import git
from darkroom.system.errors import UserError

HOST = "127.0.0.1"  # the page shows the images and changes decisions: it is for this machine alone
UPLOADS = 8  # decisions under way at a time


def run(kinds: Collection[Kind], port: int, browse: bool) -> None:
    """Show what is to be reviewed of these kinds, until Ctrl-C.

    Raises:
        UserError: A package is missing, the project is not split yet, or the port cannot be had.
    """
    git.refuse_elsewhere()
    try:
        from darkroom.review import app
        from darkroom.serving import guard, listening
    except ImportError as error:
        raise UserError(f"darkroom review needs {error.name}: `pip install -r requirements/extras/serve.txt`") from None
    found = queue.build(kinds)
    for note in found.notes:
        print(f"darkroom review: {note}", file=sys.stderr)
    if not found.items:
        print("darkroom review: there is nothing to review", file=sys.stderr)
        return
    with listening.listening(HOST, port) as listener:
        token = secrets.token_urlsafe(24)
        url = f"{listening.url_of(HOST, listener)}?token={token}"
        print(f"darkroom review: {count(found)} at {url} (Ctrl-C ends it)", file=sys.stderr, flush=True)
        if browse and has_screen():
            webbrowser.open(url)
        listening.answer(guard.Guard(app.build(found, token), guard.names_of(HOST, ()), UPLOADS), listener)
    print(f"darkroom review: {count(found)}; `darkroom review --apply` moves and removes the files", file=sys.stderr)


def count(found: queue.Queue) -> str:
    """How many images there are, and how many of them are decided."""
    decided = {(one.path, one.sha256) for one in decisions.read()}
    done = sum(found.images[item.image][:2] in decided for item in found.items)
    return f"{done:,} of {len(found.items):,} images decided"


def has_screen() -> bool:
    """Whether a browser with windows can be started. Without a screen Python would start one in the terminal."""
    return os.name == "nt" or sys.platform == "darwin" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ))
