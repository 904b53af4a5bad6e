"""How commands get to the members of a federation: by contexts of the user's kubeconfig, or by the hub's Secrets."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from chronik.apply.members import kubeconfig_of
from chronik.kube import connect, connect_with
from chronik.kube.retry import RetryPolicy

if TYPE_CHECKING:
    from typing import Self

    from chronik.federation.document import Member
    from chronik.kube import ConnectOptions, Kube

_RETRY = RetryPolicy(attempts=3, budget=10.0)
"""A member that does not answer is told of soon: the others' report waits for it."""


@dataclass(slots=True)
class Connections:
    """Connections to the members of a federation, each opened when it is first needed; a context manager.

    A member that names a Secret is reached by the kubeconfig in it, which `hub` is asked for; one that names none, and
    all of them `by_contexts`, by the context of the user's kubeconfig that it names, or else that has its name. One
    that is in the hub's own Kubernetes cluster is `hub`.
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
            if member.at.local:
                return self.hub
            if member.name not in self._opened:
                self._opened[member.name] = await self._open(member)
        return self._opened[member.name]

    async def _open(self, member: Member) -> Kube:
        at = member.at
        options = replace(self.options, namespace=at.namespace, retry=_RETRY)
        if not at.secret or self.by_contexts:
            opened = connect(replace(options, context=at.context or member.name))
        else:
            content = await kubeconfig_of(self.hub, self.namespace, at)
            name = f"Secret {self.namespace}/{at.secret}"
            opened = connect_with(content, name, replace(options, kubeconfig="", context=at.context))
        return await self._stack.enter_async_context(opened)
