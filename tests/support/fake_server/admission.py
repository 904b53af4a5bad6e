"""What can still stop a write to the stand-in once its body is understood: preconditions, admission and validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support import api_errors as errors
from support.custom_resources import validate_custom
from support.validation import storage_of, validate

if TYPE_CHECKING:
    from support.fake_server.kinds import Kind
    from support.fake_server.request import Target
    from support.fake_server.store import Store

Object = dict[str, Any]


def require_namespace(store: Store, at: Target, name: str) -> None:
    """Refuse to create anything in a namespace that does not exist or is being deleted."""
    if not at.namespace:
        return
    namespaces = store.kinds["", "namespaces"]
    namespace = store.get(namespaces, "", at.namespace)
    if namespace is None:
        raise errors.not_found(namespaces.resource(at.namespace))
    if "deletionTimestamp" in namespace["metadata"]:
        message = f"namespace {at.namespace} is being terminated"
        cause = {"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"}
        why = f"unable to create new content in namespace {at.namespace} because it is being terminated"
        raise errors.forbidden(at.kind.resource(name), why, [cause])


def check_preconditions(at: Target, sent: Object, live: Object) -> None:
    """Refuse to write to another object than the one that was read, by uid and resource version."""
    if sent.get("uid", live["uid"]) != live["uid"]:
        why = f"UID in precondition: {sent['uid']}, UID in object meta: {live['uid']}"
        key = f"/registry/{at.kind.plural}/{at.namespace}/{at.name}"
        raise errors.conflict(
            at.kind.resource(at.name),
            f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, "
            f"AdditionalErrorMsg: Precondition failed: {why}",
        )
    if (sent.get("resourceVersion") or live["resourceVersion"]) not in {live["resourceVersion"], "0"}:
        raise errors.conflict(at.kind.resource(at.name), errors.STALE)


def check(kind: Kind, new: Object, live: Object | None) -> None:
    """Refuse what the kind does not allow; `live` is what is replaced, None on creation."""
    causes = validate_custom(new, live, kind.custom) if kind.custom is not None else validate(new, live)
    if live and "deletionTimestamp" in live["metadata"]:
        causes += _new_finalizers(new["metadata"], live["metadata"])
    if causes:
        raise errors.invalid(kind.named(new["metadata"]["name"]), causes)


def _new_finalizers(new: Object, live: Object) -> list[dict[str, str]]:
    extra = [one for one in new.get("finalizers", []) if one not in live.get("finalizers", [])]
    if not extra:
        return []
    listed = ", ".join(f'"{one}"' for one in extra)
    why = f"no new finalizers can be added if the object is being deleted, found new finalizers []string{{{listed}}}"
    return [errors.forbidden_field("metadata.finalizers", why)]


def admit_growth(store: Store, at: Target, new: Object, live: Object) -> None:
    """Refuse a larger claim unless its storage class lets it grow."""
    if storage_of(new) <= storage_of(live):
        return
    classes = store.kinds["storage.k8s.io", "storageclasses"]
    found = store.get(classes, "", live.get("storageClassName", ""))
    if not (found or {}).get("allowVolumeExpansion"):
        raise errors.forbidden(
            at.kind.resource(at.name),
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must "
            "support resize",
        )
