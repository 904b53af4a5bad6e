"""Where the stand-in keeps its objects: by kind and name, with one resource version counter and a history for watches.

Used from the server's one thread only.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support.fake_server.kinds import BUILT_IN, Kind

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

Object = dict[str, Any]
Key = tuple[str, str]
"""Namespace ("" for none) and name."""


@dataclass(frozen=True, slots=True)
class Change:
    """One step in the life of an object; `before` is None for a new one, `after` for a deleted one."""

    version: int
    kind: Kind
    before: Object | None
    after: Object | None

    @property
    def object(self) -> Object:
        """The object after the step; of a deleted one its last state, with the version of the deletion."""
        if self.after is not None:
            return self.after
        last = dict(self.before or {})
        last["metadata"] = last["metadata"] | {"resourceVersion": str(self.version)}
        return last


class Store:
    """All objects, and everything that happened to them since `oldest`."""

    def __init__(self) -> None:
        self.kinds: dict[tuple[str, str], Kind] = {(kind.group, kind.plural): kind for kind in BUILT_IN}
        self.version = 100  # a real cluster never starts at zero either
        self.oldest = 100
        self.history: list[Change] = []
        self.listeners: list[Callable[[Change], None]] = []
        self.watches: list[tuple[Kind, asyncio.Queue[Change | None]]] = []
        self._objects: dict[tuple[str, str], dict[Key, Object]] = defaultdict(dict)

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Return an object as it is stored; not to be changed."""
        return self._objects[kind.group, kind.plural].get((namespace, name))

    def of(self, kind: Kind, namespace: str = "") -> list[Object]:
        """Return the objects of a kind in the order of their keys, of all namespaces or of one."""
        objects = self._objects[kind.group, kind.plural]
        return [objects[key] for key in sorted(objects) if not namespace or key[0] == namespace]

    def in_namespace(self, namespace: str) -> Iterator[tuple[Kind, Object]]:
        """Yield everything that lives in a namespace."""
        for kind in list(self.kinds.values()):
            if kind.namespaced:
                yield from ((kind, obj) for obj in self.of(kind, namespace))

    def everything(self) -> Iterator[tuple[Kind, Object]]:
        """Yield every object there is."""
        for kind in list(self.kinds.values()):
            yield from ((kind, obj) for obj in self.of(kind))

    def put(self, kind: Kind, obj: Object) -> Object:
        """Store an object, the store's own from then on, under the next resource version; tell the watches."""
        self.version += 1
        stored = obj | {"metadata": obj["metadata"] | {"resourceVersion": str(self.version)}}
        objects = self._objects[kind.group, kind.plural]
        key = _key(stored)
        self._tell(Change(self.version, kind, objects.get(key), stored))
        objects[key] = stored
        return stored

    def drop(self, kind: Kind, obj: Object) -> None:
        """Forget an object and tell the watches."""
        self.version += 1
        last = self._objects[kind.group, kind.plural].pop(_key(obj))
        self._tell(Change(self.version, kind, last, None))

    def compact(self) -> None:
        """Forget the history: whoever resumes a watch from before now is told that it is gone."""
        self.oldest = self.version
        self.history.clear()
        self.cut_watches()

    def drop_namespace(self, namespace: str) -> None:
        """Forget everything in a namespace that no test will look at again, without telling anybody."""
        for objects in self._objects.values():
            for key in [key for key in objects if key[0] == namespace]:
                del objects[key]

    def cut_watches(self) -> None:
        """End all watches that run."""
        for _, queue in self.watches:
            queue.put_nowait(None)

    def _tell(self, change: Change) -> None:
        self.history.append(change)
        for listener in self.listeners:
            listener(change)
        for kind, queue in self.watches:
            if kind == change.kind:
                queue.put_nowait(change)


def _key(obj: Object) -> Key:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
