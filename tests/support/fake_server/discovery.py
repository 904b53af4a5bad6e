"""What the stand-in tells about itself: version, health, and which kinds it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support.api_errors import PageNotFound

if TYPE_CHECKING:
    from support.fake_server.kinds import Kind

Object = dict[str, Any]

VERSION = {"major": "1", "minor": "36", "gitVersion": "v1.36.2", "platform": "linux/amd64"}
_OPENAPI = "/openapi/v3/apis/"
_HEALTH = {"/healthz", "/livez", "/readyz"}


def discover(path: str, kinds: list[Kind]) -> Any:
    """Answer a GET of anything that is no API object; raise PageNotFound if nothing is there."""
    if path in _HEALTH:
        return "ok"
    if path == "/version":
        return VERSION
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = sorted({(kind.group, kind.version) for kind in kinds if kind.group})
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*group) for group in groups]}
    if path.startswith(_OPENAPI):
        return _published(path.removeprefix(_OPENAPI), kinds)
    prefix, _, version = path.strip("/").rpartition("/")
    group = prefix.removeprefix("apis").strip("/") if prefix != "api" else ""
    served = [kind for kind in kinds if (kind.group, kind.version) == (group, version)]
    if not served:
        raise PageNotFound
    resources = [entry for kind in served for entry in _resources(kind)]
    named = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": named, "resources": resources}


def _published(group_version: str, kinds: list[Kind]) -> Object:
    """Return custom resources in OpenAPI 3.0, with the keyword that says which one each schema is about."""
    custom = [kind for kind in kinds if kind.custom and f"{kind.group}/{kind.version}" == group_version]
    if not custom:
        raise PageNotFound
    schemas = {
        kind.name: {
            **(kind.custom or {}),
            "x-kubernetes-group-version-kind": [{"group": kind.group, "kind": kind.name, "version": kind.version}],
        }
        for kind in custom
    }
    return {"openapi": "3.0.0", "components": {"schemas": schemas}}


def _group(group: str, version: str) -> Object:
    one = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [one], "preferredVersion": one}


def _resources(kind: Kind) -> list[Object]:
    verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    entry = {"name": kind.plural, "singularName": kind.name.lower(), "namespaced": kind.namespaced, "kind": kind.name}
    subresources = [name for name in ("status", "scale") if getattr(kind, name)]
    few = ["get", "patch", "update"]
    return [entry | {"verbs": verbs}, *(entry | {"name": f"{kind.plural}/{one}", "verbs": few} for one in subresources)]
