"""What commands that move clients to a copy have in common: how much it may lack, whether they write, how they report.

Data goes to stdout. With -o json that is the report alone, and what a person is asked about goes to stderr.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from chronik.cli import parameters
from chronik.cli.common import report_option
from chronik.cli.main import print_data
from chronik.cli.streams import need_terminal, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chronik.api.replication.failover import Judgement
    from chronik.report.moving import Move, Outcome

    Command = Callable[..., Any]

REFUSED = 1


@dataclass(frozen=True, slots=True)
class Moving:
    """How a command is to go about it: how far the copy may be behind, what is accepted, and for whom it reports."""

    max_lag: float
    accept_loss: bool
    dry_run: bool
    yes: bool
    output: str

    def need_word(self) -> None:
        """Refuse to begin where nobody can be asked, and has to be.

        Raises:
            InputError: there is neither a terminal nor --yes.
        """
        if not (self.yes or self.dry_run):
            need_terminal("confirm with --yes, or see what it would do with --dry-run")

    def show(self, lines: Iterable[str]) -> None:
        """Write what is found: as data, or for the person who is asked about it."""
        if self.output == "text":
            say("\n".join(lines))
        elif not (self.yes or self.dry_run):
            say("\n".join(lines), err=True)

    def accepts(self, judgement: Judgement) -> bool:
        """Return whether nothing is lacking that is not accepted, and say it if something is."""
        if judgement.safe or self.accept_loss:
            return True
        click.echo("nothing was written: fix that and try again, or go on with --accept-loss", err=True)
        return False

    def agreed(self, question: str) -> bool:
        """Ask, and say that nothing was written if the answer is no."""
        if click.confirm(question, err=True):
            return True
        click.echo("nothing was written", err=True)
        return False

    def end(self, move: Move, outcome: Outcome, steps: list[str]) -> int:
        """Report what became of it, if that is for a program, and return the exit code."""
        from chronik.report.data import to_json  # noqa: PLC0415  # help and completion stay quick
        from chronik.report.moving import move_data  # noqa: PLC0415  # as above

        if self.output == "json":
            print_data(to_json(move_data(move, outcome, steps, dry_run=self.dry_run)))
        return REFUSED if outcome in {"refused", "not-tried"} else 0


def moving_options(*, behind: str, lacking: str) -> Callable[[Command], Command]:
    """Return what gives a command one `moving`; `behind` and `lacking` are the help of --max-lag and --accept-loss."""
    options = (
        click.option(
            "--max-lag", type=parameters.Duration(), metavar="DURATION", default="5s", show_default=True, help=behind
        ),
        click.option("--accept-loss", is_flag=True, help=lacking),
        click.option(
            "--dry-run", is_flag=True, help="Show what is known and what would be written, and write nothing."
        ),
        click.option("-y", "--yes", is_flag=True, help="Do not ask."),
        report_option,
    )

    def give(command: Command) -> Command:
        @wraps(command)
        def given(*, max_lag: float, accept_loss: bool, dry_run: bool, yes: bool, output: str, **others: Any) -> Any:
            moving = Moving(max_lag, accept_loss=accept_loss, dry_run=dry_run, yes=yes, output=output)
            return command(moving=moving, **others)

        return parameters.with_options(*options)(given)

    return give
