"""The API server, as the rest of chronik sees it: get, list, watch, apply, create and delete, and typed errors.

`connect` returns a `Kube`. How it is made is this package's business alone: no other one talks to a cluster or imports
the official client.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from chronik.clock import Clock
from chronik.kube.retry import RetryPolicy
from chronik.manifest import FIELD_MANAGER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from chronik.manifest import Kind, Manifest, ObjectRef

Propagation = Literal["Background", "Orphan", "Foreground"]


class WriteGuard(Protocol):
    """Decides whether a client may write. Reads and dry runs pass without it.

    Both methods refuse with an ApiError, which the method of `Kube` that was called raises unchanged.
    """

    def writing(self) -> AbstractAsyncContextManager[None]:
        """Enclose one write from before its first attempt to after its last, pauses included, and bound it in time.

        Raises:
            ApiError: it must not be sent, or it took too long and was cut off; then it may have been done.
        """

    def check(self) -> None:
        """Refuse, if nothing may be sent now. Asked in every attempt, the moment before its first byte; must be fast.

        Raises:
            ApiError: it must not be sent.
        """


class _Unguarded:
    """Lets everything through."""

    def writing(self) -> AbstractAsyncContextManager[None]:
        """Enclose nothing."""
        return nullcontext()

    def check(self) -> None:
        """Refuse nothing."""


UNGUARDED: WriteGuard = _Unguarded()


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """How to connect. Empty means: as kubectl would.

    `request_timeout` bounds one attempt, `retry` all of them together; both in seconds. `on_request` gets verb, kind,
    HTTP code (0: no answer) and seconds of every attempt; `on_warning` the subject and a warning of the server. `guard`
    is asked about everything that changes something.
    """

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""
    request_timeout: float = 30.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    in_flight: int = 32
    on_request: Callable[[str, str, int, float], None] = lambda _verb, _kind, _code, _seconds: None
    on_warning: Callable[[str, str], None] = lambda _subject, _text: None
    guard: WriteGuard = UNGUARDED
    clock: Clock = field(default_factory=Clock)


@dataclass(frozen=True, slots=True)
class Listing:
    """What a list found, and the resource version that a watch goes on from."""

    items: list[Manifest]
    resource_version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """A change; a BOOKMARK's object has nothing but its resource version."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Manifest

    @property
    def resource_version(self) -> str:
        """What a watch that goes on after this event starts from."""
        return str(self.object["metadata"]["resourceVersion"])


class Kube(Protocol):
    """An API server. Every method may raise what stands below ApiError and ConflictError in `errors`."""

    @property
    def namespace(self) -> str:
        """The namespace to use where none is given."""

    async def kind(self, api_version: str, name: str) -> Kind:
        """Return how the server names a kind, which it is asked for if chronik does not know it."""

    async def openapi(self, api_version: str) -> Manifest:
        """Return what the server publishes of a group's version, in OpenAPI 3.0; KindMissing if it has none.

        Every user may read it, unlike a CustomResourceDefinition. It is some 100 kB long.
        """

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """Return an object, or None if it does not exist; a missing kind is an error."""

    async def list(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        keep: Callable[[Manifest], Manifest] = lambda manifest: manifest,
    ) -> Listing:
        """Return all objects of a namespace, or of all namespaces if it is None, with apiVersion and kind set.

        `keep` is called with each object as its page arrives, and what it returns is listed instead: so a large
        collection need never be in memory as a whole.
        """

    async def ask_pod(self, pod: ObjectRef, port: int, path: str) -> Any:
        """Return the JSON that a pod answers a GET with; the API server asks it. It takes the right to get pods/proxy.

        What keeps the API server from reaching the pod is tried again like its own failures: bound it in time.
        """

    async def apply(
        self,
        manifest: Manifest,
        *,
        manager: str = FIELD_MANAGER,
        force: bool = False,
        dry_run: bool = False,
        subresource: str = "",
    ) -> Manifest:
        """Apply a manifest on the server, and return the object as it is then.

        With `metadata.resourceVersion` an existing object must have that version; with `metadata.uid` the object must
        exist, and be that one. The first is no such promise for an object that does not exist: it is created.
        """

    async def merge(self, kind: Kind, ref: ObjectRef, patch: Manifest, *, dry_run: bool = False) -> Manifest:
        """Merge a patch (RFC 7386) into an object, and return it as it is then: for what an apply cannot take away.

        With `metadata.resourceVersion` in the patch the object must have that version.
        """

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object that no other client writes, such as an Event, and return it. Not repeated when in doubt."""

    async def delete(
        self,
        kind: Kind,
        ref: ObjectRef,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Propagation = "Background",
        dry_run: bool = False,
    ) -> None:
        """Delete an object, if it still is the one with this uid and version; if it is gone already, that is fine."""

    def watch(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[WatchEvent]:
        """Yield changes after a resource version, bookmarks included, until the server ends it, after some minutes.

        Raises:
            WatchExpired: the version is too old: list again.
            Unreachable: the connection broke: go on from the last event's version, after a pause.
        """
