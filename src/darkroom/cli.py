"""`darkroom`: what people type. Every command is a few lines that call another room."""

import sys
import time
from collections.abc import Callable

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


def _stage_command(name: str) -> Callable[[], None]:
    def command() -> None:
        raise typer.Exit(stage.run(name))

    command.__doc__ = f"Run the stage {name} alone, as `dvc repro` would."
    return command


for _name in stage.STAGES:
    app.command(_name, rich_help_panel="Stages")(_stage_command(_name))
