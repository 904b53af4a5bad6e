"""The writes of the stand-in: create, apply, update, patch. Each returns the code and the body of its answer.

The order of steps is kube-apiserver's, because clients can tell: decode, field management, preconditions, strategy,
validation, storage. Dry runs stop before storage.
"""

from __future__ import annotations

import random
import uuid
from typing import TYPE_CHECKING, Any

from support import api_errors as errors
from support.fake_server.admission import admit_growth, check, check_preconditions, require_namespace
from support.fake_server.bodies import check_applied, check_name, check_readable, check_typed, read, read_patched
from support.fake_server.kinds import prepare_create, prepare_update
from support.fake_server.request import Answered, Object, Options, Target, now
from support.patches import patched
from support.ssa import server_side_apply as ssa
from support.typechecks import untyped

if TYPE_CHECKING:
    from support.fake_server.kinds import Kind
    from support.fake_server.store import Store


class Writer:
    """Changes a store the way kube-apiserver does."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, at: Target, body: Object, options: Options) -> Answered:
        """POST: a new object."""
        obj = read(at, body, options)
        metadata = obj["metadata"]
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + "".join(random.choices("bcdfghjklmnpqrstvwxz2456789", k=5))
        if metadata.get("resourceVersion"):
            raise errors.internal("resourceVersion should not be set on objects to be created")
        managers = ssa.update(at.kind.empty, obj, {}, _write(at, options))
        return self._insert(at, obj, managers, options)

    def apply(self, at: Target, config: Object, options: Options) -> Answered:
        """PATCH with server-side apply: creates the object or merges into it."""
        check_applied(at, config)
        live = self._store.get(at.kind, at.namespace, at.name)
        if live is None:
            _refuse_to_create(at, config)
        check_typed(at, config)
        if live and at.kind.custom is not None:  # only their definitions change
            check_typed(at, live, "live")
        sent = config
        metadata = {key: value for key, value in sent["metadata"].items() if key != "managedFields"}
        metadata |= {"name": at.name} | ({"namespace": at.namespace} if at.namespace else {})
        config = sent | {"metadata": metadata}
        base, managers = split(live) if live else (at.kind.empty, {})
        write = _write(at, options)
        if live and not managers:
            managers = ssa.first_apply(at.kind.empty, base, write)
        new, managers = applied(base, config, managers, write, options)
        check_readable(at, new, sent)
        obj = at.kind.decode(new)
        if live:
            return self.replace(at, live, obj, managers, options)
        return self._insert(at, obj, managers, options)

    def update(self, at: Target, body: Object, options: Options) -> Answered:
        """PUT: the whole object."""
        new = read(at, body, options)
        check_name(at, new["metadata"])
        live = self.live(at)
        if not at.kind.unconditional and not new["metadata"].get("resourceVersion"):
            cause = errors.invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
            raise errors.invalid(at.kind.resource(at.name), [cause])
        return self._change(at, live, new, options)

    def patch(self, at: Target, change: Any, how: str, options: Options) -> Answered:
        """PATCH with a merge patch or a JSON patch."""
        live = self.live(at)
        return self._change(at, live, read_patched(at, patched(live, change, how), options), options)

    def live(self, at: Target) -> Object:
        """Return the object as it is stored."""
        live = self._store.get(at.kind, at.namespace, at.name)
        if live is None:
            raise errors.not_found(at.kind.resource(at.name))
        return live

    def replace(self, at: Target, live: Object, new: Object, managers: ssa.Managers, options: Options) -> Answered:
        """Store a new state of an object, unless it says the same, and delete it if that was all that held it."""
        metadata = new["metadata"]
        check_preconditions(at, metadata, live["metadata"])
        metadata["resourceVersion"] = live["metadata"]["resourceVersion"]
        _set_managers(metadata, managers)
        prepare_update(at.kind, new, live, at.subresource)
        check(at.kind, new, live)
        if at.kind.name == "PersistentVolumeClaim":
            admit_growth(self._store, at, new["spec"], live["spec"])
        if _without_times(new) == _without_times(live):
            return 200, live
        if options.dry_run:
            return 200, new
        if "deletionTimestamp" in metadata and not metadata.get("finalizers") and not _holds_content(at.kind, new):
            self._store.drop(at.kind, new)
            return 200, new
        return 200, self._store.put(at.kind, new)

    def _insert(self, at: Target, obj: Object, managers: ssa.Managers, options: Options) -> Answered:
        metadata = obj["metadata"]
        require_namespace(self._store, at, metadata.get("name", ""))
        if not metadata.get("name"):
            cause = errors.required("metadata.name", "name or generateName is required")
            raise errors.invalid(at.kind.named(), [cause])
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
        _set_managers(metadata, managers)
        prepare_create(at.kind, obj)
        check(at.kind, obj, None)
        existing = self._store.get(at.kind, at.namespace, metadata["name"])
        if existing:
            deleting = "deletionTimestamp" in existing["metadata"]
            raise errors.already_exists(at.kind.resource(metadata["name"]), deleting=deleting)
        return 201, obj if options.dry_run else self._store.put(at.kind, obj)

    def _change(self, at: Target, live: Object, new: Object, options: Options) -> Answered:
        """Replace an object by anything but an apply; its body may rewrite or reset the managed fields."""
        sent = new["metadata"].pop("managedFields", None)
        base, managers = split(live)
        if sent is not None and (not sent or sent == [{}]):
            managers = {}
        elif sent and sent != live["metadata"].get("managedFields"):
            managers = ssa.decode(sent)
        if managers and at.kind.custom is not None and any(untyped(base, at.kind.type)):
            managers = {}  # so gives field management up on what does not fit its definition
        elif managers:  # an object without managers is not tracked until it is applied to
            managers = ssa.update(base, new, managers, _write(at, options))
        return self.replace(at, live, new, managers, options)


def applied(
    base: Object, config: Object, managers: ssa.Managers, write: ssa.Write, options: Options
) -> tuple[Object, ssa.Managers]:
    """Merge a configuration, and answer conflicts with 409."""
    try:
        return ssa.apply(base, config, managers, write, force=options.force)
    except ssa.Conflicts as conflicts:
        raise errors.ApiError(409, "Conflict", str(conflicts), {"causes": conflicts.causes}) from None


def split(live: Object) -> tuple[Object, ssa.Managers]:
    """Return an object without its managed fields, and these decoded."""
    base = live | {"metadata": {key: value for key, value in live["metadata"].items() if key != "managedFields"}}
    return base, ssa.decode(live["metadata"].get("managedFields", ()))


def _write(at: Target, options: Options) -> ssa.Write:
    kind = at.kind
    return ssa.Write(kind.type, kind.api_version, options.manager, now(), at.subresource, kind.ignored(at.subresource))


def _set_managers(metadata: Object, managers: ssa.Managers) -> None:
    metadata.pop("managedFields", None)
    if managers:
        metadata["managedFields"] = ssa.encode(managers)


def _refuse_to_create(at: Target, config: Object) -> None:
    if at.subresource:
        raise errors.not_found(at.kind.resource(at.name))
    uid = config["metadata"].get("uid")
    if uid:
        why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        raise errors.conflict(at.kind.resource(at.name), why)


def _holds_content(kind: Kind, obj: Object) -> bool:
    return kind.name == "Namespace" and bool(obj["spec"].get("finalizers"))


def _without_times(obj: Object) -> Object:
    """Return what decides whether a write changes anything: neither version nor the times and order of managers do."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
    if "managedFields" in metadata:
        entries = [{key: value for key, value in entry.items() if key != "time"} for entry in metadata["managedFields"]]
        metadata["managedFields"] = sorted(entries, key=str)
    return obj | {"metadata": metadata}
