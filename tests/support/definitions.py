"""CustomResourceDefinitions of kinds that are not chronik's, as tests install them on servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.manifest import KindName


def definition(
    kind: KindName,
    plural: str,
    schema: Mapping[str, Any],
    *,
    scope: str = "Namespaced",
    status: bool = False,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the definition of a kind with one version; `status` gives it a status of its own."""
    group, _, version = kind.api_version.partition("/")
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": dict(schema)}}
    names = {"kind": kind.name, "listKind": f"{kind.name}List", "plural": plural, "singular": kind.name.lower()}
    metadata: dict[str, Any] = {"name": f"{plural}.{group}"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata | ({"annotations": dict(annotations)} if annotations else {}),
        "spec": {
            "group": group,
            "scope": scope,
            "names": names,
            "versions": [served | ({"subresources": {"status": {}}} if status else {})],
        },
    }
