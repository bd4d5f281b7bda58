"""`darkroom`: what people type. Every command is a few lines that call another room."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from darkroom import dvc, stage
from darkroom.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A folder of images in; two trained classifiers and an honest comparison of them out.",
)


def main() -> None:
    """The entry point: a user's mistake ends in its sentence and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"darkroom: {error}", file=sys.stderr)
        sys.exit(2)


@app.command()
def run() -> None:
    """All of it: data/raw where it is missing, `dvc repro`, and the results as a table."""
    from darkroom import demo, summary

    started = time.monotonic()
    if not Path("dvc.yaml").exists():
        raise UserError("there is no dvc.yaml here: run from the project's top folder")
    demo.provide_raw()
    if code := dvc.call("repro"):
        raise typer.Exit(code)
    print(summary.table(time.monotonic() - started))


@app.command()
def demo() -> None:
    """Lay out the demo data (2,624 solar cells, CC BY-NC-SA 4.0) as data/raw."""
    from darkroom import demo

    demo.lay_out(demo.RAW)


@app.command()
def summary() -> None:
    """The results as a table, without running anything."""
    from darkroom import summary

    print(summary.table())


@app.command("data-diff")
def data_diff(
    old: Annotated[str, typer.Argument(help="A Git revision.")] = "HEAD",
    new: Annotated[str | None, typer.Argument(help="Another; the work tree when left out.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Also write thumbnails of the changed images to this PNG.")
    ] = None,
) -> None:
    """Which images were added, removed, relabelled, moved or renamed between two revisions, as Markdown."""
    from darkroom import data_diff

    changes = data_diff.diff(data_diff.read_manifest(old), data_diff.read_manifest(new))
    print(data_diff.markdown(changes, old, new or "the work tree"), end="")
    if picture and changes:
        from darkroom import thumbnails

        thumbnails.of_changes(changes, old, new, picture)


def _stage_command(name: str) -> Callable[[], None]:
    def command() -> None:
        raise typer.Exit(stage.run(name))

    command.__doc__ = f"Run the stage {name} alone, as `dvc repro` would."
    return command


for _name in stage.STAGES:
    app.command(_name, rich_help_panel="Stages")(_stage_command(_name))
