"""How commands get to the members of a federation: by contexts of the user's kubeconfig, or by the hub's Secrets."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from chronik.cli import parameters
from chronik.errors import InputError
from chronik.wording import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import Self

    from chronik.federation.document import Federation, Member
    from chronik.federation.validation import ValidFederation
    from chronik.kube import ConnectOptions, Kube


@dataclass(frozen=True, slots=True)
class Federated:
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


def federated_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options about federations; it gets them as one `federated`."""

    @wraps(command)
    def told(*, members: tuple[str, ...], contexts: bool, hub: bool, **others: Any) -> Any:
        return command(federated=Federated(members, contexts, hub), **others)

    named = click.option(
        "--members",
        type=parameters.Names(),
        metavar="NAME,…",
        default=(),
        help="Of a ChronikFederation: these members only.  [default: all]",
    )
    contexts = click.option(
        "--contexts", is_flag=True, help="Reach members by contexts of your kubeconfig, though they name Secrets."
    )
    hub = click.option("--hub", is_flag=True, help="Of a ChronikFederation: itself, for the hub that carries it out.")
    return named(contexts(hub(told)))


@dataclass(slots=True)
class Connections:
    """Connections to the members of a federation, each opened when it is first needed; a context manager.

    A member that names a Secret is reached by the kubeconfig in it, which `hub` is asked for; one that names none, and
    all of them `by_contexts`, by the context of the user's kubeconfig that it names, or else that has its name.
    """

    namespace: str
    hub: Kube
    options: ConnectOptions
    by_contexts: bool = False
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _opened: dict[str, Kube] = field(default_factory=dict)
    _opening: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def to(self, member: Member) -> Kube:
        """Return a member's API server.

        Raises:
            ChronikError: its context or its Secret cannot be used.
        """
        async with self._opening.setdefault(member.name, asyncio.Lock()):
            if member.name not in self._opened:
                self._opened[member.name] = await self._open(member)
        return self._opened[member.name]

    async def _open(self, member: Member) -> Kube:
        from chronik.apply.members import kubeconfig_of  # noqa: PLC0415  # most documents are no federations
        from chronik.kube import connect, connect_with  # noqa: PLC0415  # `--help` stays quick
        from chronik.kube.retry import RetryPolicy  # noqa: PLC0415

        at = member.at
        options = replace(self.options, namespace=at.namespace, retry=RetryPolicy(attempts=3, budget=10.0))
        if not at.secret or self.by_contexts:
            opened = connect(replace(options, context=at.context or member.name))
        else:
            content = await kubeconfig_of(self.hub, self.namespace, at)
            name = f"Secret {self.namespace}/{at.secret}"
            opened = connect_with(content, name, replace(options, kubeconfig="", context=at.context))
        return await self._stack.enter_async_context(opened)
