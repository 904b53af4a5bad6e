"""The options of commands that move clients to a copy: how much it may lack, and whether anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chronik.cli import parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., Any]


def moving_options(*, behind: str, lacking: str) -> Callable[[Command], Command]:
    """Return what gives a command these options; `behind` and `lacking` are the help of --max-lag and --accept-loss."""
    options = (
        click.option(
            "--max-lag", type=parameters.Duration(), metavar="DURATION", default="5s", show_default=True, help=behind
        ),
        click.option("--accept-loss", is_flag=True, help=lacking),
        click.option(
            "--dry-run", is_flag=True, help="Show what is known and what would be written, and write nothing."
        ),
        click.option("-y", "--yes", is_flag=True, help="Do not ask."),
    )

    def give(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return give
