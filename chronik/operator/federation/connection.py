"""The connection to one member, by the kubeconfig in its Secret: opened when it is needed, and anew when that changes.

What the Secret says is kept nowhere but in the connection.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chronik.apply.members import kubeconfig_of
from chronik.kube import connect_with
from chronik.kube.retry import RetryPolicy

if TYPE_CHECKING:
    from chronik.federation.document import Address
    from chronik.kube import ConnectOptions, Kube
    from chronik.operator.context import ReconcileContext

REQUEST_SECONDS = 10.0
"""How long a member may take to answer one request."""
_RETRY = RetryPolicy(attempts=2, budget=5.0)
"""A member that does not answer is tried again by its own task, later."""
_IN_FLIGHT = 2


@dataclass(slots=True)
class MemberConnection:
    """The connection of one member; `namespace` is the federation's. `use` returns what to ask it by."""

    namespace: str
    context: ReconcileContext
    options: ConnectOptions
    _kube: Kube | None = None
    _stack: AsyncExitStack | None = None
    _used: tuple[Address, str | None] | None = None

    async def use(self, at: Address) -> Kube:
        """Return the member at an address.

        Raises:
            ChronikError: its Secret cannot be had, or has no kubeconfig that can be used.
        """
        if at.local:
            await self.close()
            return self.context.kube
        digest = self._digest(at)
        if self._kube is not None and self._used == (at, digest):
            return self._kube
        await self.close()
        self._used = (at, digest)
        content = await kubeconfig_of(self.context.kube, self.namespace, at)
        name = f"Secret {self.namespace}/{at.secret}"
        options = replace(
            self.options,
            kubeconfig="",
            context=at.context,
            namespace=at.namespace,
            request_timeout=REQUEST_SECONDS,
            retry=_RETRY,
            in_flight=_IN_FLIGHT,
            on_request=lambda _verb, _kind, _code, _seconds: None,
        )
        stack = AsyncExitStack()
        self._kube = await stack.enter_async_context(connect_with(content, name, options))
        self._stack = stack
        return self._kube

    def is_stale(self, at: Address) -> bool:
        """Return whether the Secret has changed since it was read, or came."""
        return self._used is not None and self._used != (at, self._digest(at))

    async def close(self) -> None:
        """Close the connection; the next use reads the Secret anew."""
        stack, self._stack, self._kube, self._used = self._stack, None, None, None
        if stack is not None:
            await stack.aclose()

    def _digest(self, at: Address) -> str | None:
        return self.context.cache.secret_digest(self.namespace, at.secret)
