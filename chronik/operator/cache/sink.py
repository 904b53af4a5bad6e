"""What a reflector of the operator brings in: packed, put into the store, and its troubles logged once each.

A list that fails is waited for, however long that takes: the operator works on with what it knows, or not at all.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from chronik.errors import KindMissing
from chronik.kube.reflector import Sink
from chronik.manifest import ObjectRef
from chronik.status.assess import describe_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronik.errors import ChronikError
    from chronik.kube import Listing, WatchEvent
    from chronik.kube.reflector import KindSelector
    from chronik.manifest import Manifest
    from chronik.operator.cache.packing import Packer
    from chronik.operator.cache.store import Store

_log = logging.getLogger("chronik.operator.cache")


class PackingSink(Sink):
    """Puts the objects of one selector into the store. `trouble` says why they cannot be listed, if they cannot.

    An optional kind that is not installed is no trouble: `on_installed` is called when that changes.
    """

    def __init__(
        self, selector: KindSelector, store: Store, packer: Packer, on_installed: Callable[[], None] = lambda: None
    ) -> None:
        self.selector = selector
        self.trouble = ""
        self._store = store
        self._scope = (selector.kind.name, selector.namespace)
        self._packer = packer
        self._logged: type[ChronikError] | None = None
        self._on_installed = on_installed

    def keep(self, manifest: Manifest) -> Manifest:
        """Pack a listed object."""
        return {"ref": ObjectRef.of(manifest), "record": self._packer.pack(manifest)}

    def replace(self, listing: Listing) -> None:
        """Put in a list; what has been written since is newer, and stays."""
        records = {item["ref"]: item["record"] for item in listing.items}
        self._store.replace(self._scope, records, int(listing.resource_version))
        if self._logged is KindMissing and self.selector.optional:
            _log.info("%s are installed now", self.selector)
            self._on_installed()
        elif self._logged is not None:
            _log.info("%s can be listed again", self.selector)
        self._logged, self.trouble = None, ""

    def observe(self, event: WatchEvent) -> None:
        """Put in an event, unless it is stale."""
        version = int(event.resource_version)
        if event.type == "DELETED":
            self._store.remove(ObjectRef.of(event.object), event.object["metadata"]["uid"], version)
        elif event.type != "BOOKMARK" and self._store.is_stale(ref := ObjectRef.of(event.object), version):
            self._store.take(ref, self._packer.pack(event.object))
        self._store.reached(self._scope, version)

    def list_failed(self, error: ChronikError) -> None:
        """Note that a list failed: the same trouble is logged once, and what is known stays known."""
        if isinstance(error, KindMissing) and self.selector.optional:
            self._not_installed()
            return
        _, words = describe_error(error)
        self.trouble = f"{self.selector} cannot be listed: {words}"
        if type(error) is not self._logged:
            self._logged = type(error)
            if self.selector.does_without(error):
                _log.warning("%s cannot be listed, and are done without: %s", self.selector, words)
            else:
                _log.error("%s cannot be listed, and are waited for: %s", self.selector, words)

    def _not_installed(self) -> None:
        """Forget what there was of a kind that is not installed, or no longer."""
        if self._logged is not KindMissing:
            self._logged, self.trouble = KindMissing, ""
            _log.debug("%s are not installed", self.selector)
            self._store.forget(self._scope)
            self._on_installed()
