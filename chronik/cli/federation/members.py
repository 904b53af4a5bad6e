"""What commands are told about federations: which members, how to get to them, and how to apply and delete them.

Light, since every command with these options loads it: named tuples are made sooner than dataclasses.
"""

from __future__ import annotations

from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from chronik.cli import parameters
from chronik.errors import InputError
from chronik.wording import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from chronik.federation.document import Federation
    from chronik.federation.validation import ValidFederation
    from chronik.report.summary import DryRun


class Federated(NamedTuple):
    """What a command is told about federations: which members, how to get to them, or that the hub is meant."""

    members: tuple[str, ...] = ()
    by_contexts: bool = False
    hub: bool = False

    def check(self, federations: Sequence[ValidFederation], clusters: Collection[object]) -> None:
        """Hold the options to the documents: both kinds at a time would be told in two manners.

        Raises:
            InputError: they do not go together.
        """
        if federations and clusters:
            hint = "Name the files of one kind: clusters of one API server, or federations."
            raise InputError("there are clusters and federations among the documents", subject="-f", hint=hint)
        if not federations and self != Federated():
            raise click.UsageError("--members, --contexts and --hub are for a ChronikFederation, and there is none")
        if self.hub and (self.members or self.by_contexts):
            raise click.UsageError("--hub is about the federation itself: leave --members and --contexts out")

    def chosen(self, federation: Federation) -> Federation:
        """Return the federation with those members only that are meant.

        Raises:
            InputError: there is no such member.
        """
        there = [each.name for each in federation.members]
        for name in self.members:
            if name not in there:
                hint = f"There are {listed(there, most=len(there))}."
                raise InputError(f"{federation.key} has no member {name}", subject="--members", hint=hint)
        chosen = tuple(each for each in federation.members if not self.members or each.name in self.members)
        return replace(federation, members=chosen)


class ApplyFlags(NamedTuple):
    """How to apply, and how to report it. `wait` is how many seconds to wait, None for not at all.

    `step` is which step of a canary, 0 for all; None if that is for the cluster to say.
    """

    prune: bool
    force: bool
    dry_run: DryRun
    wait: float | None
    output: str
    step: int | None = None
    federated: Federated = Federated()
    patience: float | None = None
    """Seconds that --timeout gives each member of a federation, None if it does not say."""


class DeleteFlags(NamedTuple):
    """How to delete; `wait` is how many seconds to wait until all is gone, None for not at all."""

    yes: bool
    dry_run: bool
    wait: float | None
    output: str
    ignore_not_found: bool


members_option = click.option(
    "--members",
    type=parameters.Names(),
    metavar="NAME,…",
    multiple=True,
    callback=parameters.together,
    help="Of a ChronikFederation: these members only.  [default: all]",
)
"""Which members a command is about."""


def federated_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options about federations; it gets them as one `federated`."""

    @wraps(command)
    def told(*, members: tuple[str, ...], contexts: bool, hub: bool, **others: Any) -> Any:
        return command(federated=Federated(members, contexts, hub), **others)

    contexts = click.option(
        "--contexts", is_flag=True, help="Reach members by contexts of your kubeconfig, though they name Secrets."
    )
    hub = click.option("--hub", is_flag=True, help="Of a ChronikFederation: itself, for the hub that carries it out.")
    return members_option(contexts(hub(told)))
