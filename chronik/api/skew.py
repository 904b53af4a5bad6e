"""What a CustomResourceDefinition in a cluster does not know of this version's fields: it may be older than chronik.

The API server drops a field that its definition does not know, or refuses the document, and neither says why.
Pure: the definition comes as the API server publishes it, in OpenAPI 3.0, which every user may read.

Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.manifest import API_VERSION, CLUSTER_KIND, Manifest
from chronik.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chronik.api.structural import Raw

_MOST_NAMED = 6


def unknown_fields(definition: Manifest, published: Mapping[str, Any]) -> list[str]:
    """Return the fields, and values of enums, of our definition that a published one does not know.

    `published` is the OpenAPI document of our group and version. Of a field that is missing whole, what is below it is
    not named. A document without the kind tells nothing, so nothing is missing.
    """
    theirs = _published_schema(published)
    if theirs is None:
        return []
    (version,) = definition["spec"]["versions"]
    ours = version["schema"]["openAPIV3Schema"]["properties"]
    known = _part(theirs, "properties")
    return [each for name in ("spec", "status") for each in _unknown(ours[name], known.get(name), name)]


def outdated(fields: list[str]) -> str:
    """Say that the definition in a cluster does not know fields, what that means, and what to apply."""
    return (
        f"the CRD in the cluster is older than this chronik: it does not know {listed(fields, _MOST_NAMED)}, "
        "so the API server refuses or drops them. Update it: `chronik schema crd | kubectl apply --server-side -f -`"
    )


def _published_schema(published: Mapping[str, Any]) -> Raw | None:
    group, _, version = API_VERSION.partition("/")
    wanted = {"group": group, "version": version, "kind": CLUSTER_KIND}
    schemas = _part(_part(published, "components"), "schemas").values()
    return next((each for each in schemas if wanted in _list(each, "x-kubernetes-group-version-kind")), None)


def _unknown(ours: Raw, theirs: Any, path: str) -> Iterator[str]:
    if not isinstance(theirs, dict):
        yield path
        return
    if theirs.get("x-kubernetes-preserve-unknown-fields"):
        return
    allowed = _list(theirs, "enum")
    if allowed:
        yield from (f"{path}: {value}" for value in ours.get("enum", ()) if value not in allowed)
    for name, child in ours.get("properties", {}).items():
        yield from _unknown(child, _part(theirs, "properties").get(name), f"{path}.{name}")
    for keyword, below in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(ours.get(keyword), dict):
            yield from _unknown(ours[keyword], _part(theirs, keyword), f"{path}{below}")


def _part(raw: Any, key: str) -> dict[str, Any]:
    """Return a map below a key of what a server sent, which may be anything."""
    found = raw.get(key) if isinstance(raw, dict) else None
    return found if isinstance(found, dict) else {}


def _list(raw: Any, key: str) -> list[Any]:
    found = raw.get(key) if isinstance(raw, dict) else None
    return found if isinstance(found, list) else []
