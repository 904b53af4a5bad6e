"""What is sent to the stand-in, checked and decoded the way kube-apiserver does it before it looks at anything else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support import api_errors as errors
from support.typechecks import misfits, unknown_fields, unreadable, untyped

if TYPE_CHECKING:
    from support.fake_server.request import Options, Target

Object = dict[str, Any]


def read(at: Target, body: Object, options: Options) -> Object:
    """Return the decoded body of a POST or PUT, defaults included."""
    complaint = _complaint(at, body, options)
    if complaint:
        kind = at.kind
        raise errors.bad_request(
            f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}: {complaint}'
        )
    obj = at.kind.decode(body)
    _check_namespace(at, obj["metadata"])
    if at.namespace:
        obj["metadata"]["namespace"] = at.namespace
    return obj


def read_patched(at: Target, patched: Object, options: Options) -> Object:
    """Return the decoded object that a merge patch or a JSON patch led to."""
    complaint = _complaint(at, patched, options)
    if complaint:
        text = json.dumps(patched, separators=(",", ":"))
        raise errors.invalid(errors.Named("", ""), [errors.invalid_value("patch", text, complaint)])
    return at.kind.decode(patched)


def _complaint(at: Target, body: Object, options: Options) -> str:
    """Return the first thing wrong with a body, or nothing; warn of unknown fields that are let pass."""
    wrong = "" if at.kind.custom is not None else next(misfits(body, at.kind.type), "") or _unreadable(at, body)
    unknown = [f'unknown field "{name}"' for name in unknown_fields(body, at.kind.type)]
    if unknown and options.validation == "Strict":
        return wrong or "strict decoding error: " + ", ".join(unknown)
    if options.validation == "Warn":
        options.warnings += unknown
    return wrong


def _unreadable(at: Target, obj: Object) -> str:
    return next(unreadable(obj, at.kind.type), "")


def check_readable(at: Target, merged: Object, config: Object) -> None:
    """Refuse what an apply led to if a time or quantity in it is none, which conversion finds out."""
    wrong = _unreadable(at, merged)
    if wrong:
        kind, namespace = f"{_group(at)}, Kind={at.kind.name}", config["metadata"].get("namespace", "")
        raise errors.internal(
            f"failed to convert new object ({namespace}/{at.name}; {kind}) to proper version: "
            f"unable to convert unstructured object to {kind}: {wrong}"
        )


def _group(at: Target) -> str:
    return at.kind.api_version if at.kind.group else f"/{at.kind.version}"


def check_applied(at: Target, config: Object) -> None:
    """Refuse an apply of another kind, name or namespace than the URL's, or with managed fields of its own."""
    sent = (config.get("apiVersion"), config.get("kind"))
    if sent != (at.kind.api_version, at.kind.name):
        group = sent[0] if "/" in str(sent[0]) else f"/{sent[0]}"
        raise errors.bad_request(f"invalid object type: {group}, Kind={sent[1]}")
    metadata = config.setdefault("metadata", {})
    check_name(at, metadata)
    _check_namespace(at, metadata)
    if metadata.get("managedFields"):
        raise errors.bad_request("metadata.managedFields must be nil")


def check_typed(at: Target, config: Object, what: str = "patch") -> None:
    """Refuse an apply that does not fit the type, or is to what does not, which field management finds out."""
    complaints = list(untyped(config, at.kind.type))
    if not complaints:
        return
    namespace = config["metadata"].get("namespace", "")
    listed = complaints[0] if len(complaints) == 1 else "errors:\n" + "\n".join(f"  {one}" for one in complaints)
    raise errors.internal(
        f"failed to create typed {what} object ({namespace}/{at.name}; {_group(at)}, Kind={at.kind.name}): {listed}"
    )


def check_name(at: Target, metadata: Object) -> None:
    """Refuse an object that is named differently from the URL."""
    name = metadata.get("name", at.name)
    if name != at.name:
        raise errors.bad_request(f"the name of the object ({name}) does not match the name on the URL ({at.name})")


def _check_namespace(at: Target, metadata: Object) -> None:
    if metadata.get("namespace", at.namespace) != at.namespace:
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
