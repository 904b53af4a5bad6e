"""The API server, as the rest of chronik sees it: get, list, watch, apply, create and delete, and typed errors.

`apply`, `reconcile`, `operator` and the cluster commands take a `Kube`; `connect` gives them one. The modules `kube_*`
are its parts and nobody else's: the only ones that talk to a cluster or import the official client.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from chronik.kube.kubeconfig import ConnectOptions, find_access
from chronik.kube.retry import Clock
from chronik.manifest import FIELD_MANAGER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from chronik.manifest import Kind, Manifest, ObjectRef

__all__ = ["Clock", "ConnectOptions", "Kube", "Listing", "Propagation", "WatchEvent", "connect"]

Propagation = Literal["Background", "Orphan", "Foreground"]


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

    async def version(self) -> dict[str, Any]:
        """Return the server's version: `gitVersion`, `major`, `minor` and so on."""

    async def kind(self, api_version: str, name: str) -> Kind:
        """Return how the server names a kind, which it is asked for if chronik does not know it."""

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

    async def merge(self, kind: Kind, ref: ObjectRef, patch: Manifest) -> Manifest:
        """Merge a patch (RFC 7386) into an object, and return it as it is then: for what an apply cannot take away.

        With `metadata.resourceVersion` in the patch the object must have that version.
        """

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object that nobody else writes, such as an Event, and return it. Not repeated when in doubt."""

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


@asynccontextmanager
async def connect(options: ConnectOptions | None = None) -> AsyncIterator[Kube]:
    """Give access to the API server that the options name, for as long as the block lasts.

    Raises:
        KubeconfigError: nothing usable is configured. No request is sent yet.
    """
    from chronik.kube.client import ApiKube  # noqa: PLC0415  # the HTTP client takes 150 ms to import
    from chronik.kube.transport import open_transport  # noqa: PLC0415

    options = options or ConnectOptions()
    async with open_transport(find_access(options), options) as transport:
        yield ApiKube(transport)
