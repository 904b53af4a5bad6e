"""Requests to the API server, before they are sent: paths, queries and bodies.

Pure: nothing is sent here.
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from chronik.manifest import FIELD_MANAGER

if TYPE_CHECKING:
    from chronik.kube.interface import Propagation
    from chronik.kube.messages import RequestInfo
    from chronik.manifest import Manifest

WATCH_GRACE_SECONDS = 30  # the server should have ended a watch so long after the time it was given

Query = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One request: what is asked, and as HTTP.

    `idempotent`: sending twice is as good as once. `conditional`: it names a version or uid, so after a conflict
    sending again is no use. `dry_run`: it asks the server to keep nothing. `timeout`: seconds for one attempt, instead
    of the client's own.
    """

    info: RequestInfo
    method: str
    path: str
    query: Query = ()
    body: bytes | None = None
    content_type: str = "application/json"
    idempotent: bool = True
    conditional: bool = False
    dry_run: bool = False
    timeout: float | None = None

    def __post_init__(self) -> None:
        if self.writes and self.body is None:
            raise ValueError(f"{self.method} {self.path} needs a body: it is what a guard holds back")

    @property
    def writes(self) -> bool:
        """Whether it may change something on the server: anything but a GET, unless it is a dry run."""
        return self.method != "GET" and not self.dry_run


def get_request(info: RequestInfo) -> Request:
    """Ask for one object."""
    return Request(info, "GET", url_path(info))


def openapi_request(info: RequestInfo) -> Request:
    """Ask what the server publishes of a group's version, in OpenAPI 3.0."""
    return Request(info, "GET", f"/openapi/v3{url_path(info)}")


def pod_request(info: RequestInfo, path: str) -> Request:
    """Have the API server ask a pod; `path` begins with a slash."""
    return Request(info, "GET", url_path(info) + path)


def list_request(info: RequestInfo, *, selectors: Query, limit: int, token: str) -> Request:
    """Ask for a collection, or one page of it; a limit of 0 means all."""
    return Request(info, "GET", url_path(info), (*selectors, *query(limit=limit), *query(**{"continue": token})))


def watch_request(info: RequestInfo, *, resource_version: str, selectors: Query, seconds: int) -> Request:
    """Ask for all changes of a collection after a version, for so many seconds."""
    parameters = query(
        watch="true",
        allowWatchBookmarks="true",
        resourceVersion=resource_version,
        timeoutSeconds=seconds,
    )
    return Request(info, "GET", url_path(info), (*parameters, *selectors), timeout=seconds + WATCH_GRACE_SECONDS)


def apply_request(info: RequestInfo, manifest: Manifest, *, manager: str, force: bool, dry_run: bool) -> Request:
    """Apply on the server. Applying twice is as good as once, unless it is bound to a version or uid."""
    return Request(
        info,
        "PATCH",
        url_path(info),
        query(
            fieldManager=manager,
            fieldValidation="Strict",
            force="true" if force else "false",
            dryRun="All" if dry_run else "",
        ),
        encode(manifest),
        "application/apply-patch+yaml",
        conditional="resourceVersion" in manifest["metadata"] or "uid" in manifest["metadata"],
        dry_run=dry_run,
    )


def merge_request(info: RequestInfo, patch: Manifest, *, dry_run: bool = False) -> Request:
    """Merge a patch into an object; doing so twice is as good as once, unless it is bound to a version."""
    return Request(
        info,
        "PATCH",
        url_path(info),
        query(fieldManager=FIELD_MANAGER, fieldValidation="Strict", dryRun="All" if dry_run else ""),
        encode(patch),
        "application/merge-patch+json",
        conditional="resourceVersion" in patch.get("metadata", {}),
        dry_run=dry_run,
    )


def create_request(info: RequestInfo, manifest: Manifest) -> Request:
    """Create an object, under its own or a generated name."""
    return Request(
        info,
        "POST",
        url_path(replace(info, name="")),
        query(fieldManager=FIELD_MANAGER, fieldValidation="Strict"),
        encode(manifest),
        idempotent=False,
    )


def delete_request(
    info: RequestInfo, *, uid: str | None, resource_version: str | None, propagation: Propagation, dry_run: bool
) -> Request:
    """Delete an object. Without a uid it must not be repeated when in doubt, lest it hit a new one of that name."""
    conditions = {name: value for name, value in (("uid", uid), ("resourceVersion", resource_version)) if value}
    options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
    options |= {"preconditions": conditions} if conditions else {}
    options |= {"dryRun": ["All"]} if dry_run else {}
    return Request(
        info,
        "DELETE",
        url_path(info),
        body=encode(options),
        idempotent=bool(uid),
        conditional=bool(conditions),
        dry_run=dry_run,
    )


def url_path(info: RequestInfo) -> str:
    """Return the path of an object, of a collection if the question names none, or of a group if its kind has none."""
    root = "apis" if "/" in info.kind.api_version else "api"
    namespace = ("namespaces", info.namespace) if info.namespace and info.kind.namespaced else ()
    parts = (*namespace, info.kind.plural, info.name, info.subresource)
    return "/".join(("", root, info.kind.api_version, *(quote(part, safe=":") for part in parts if part)))


def query(**parameters: str | int) -> Query:
    """Return the parameters that are not empty or 0."""
    return tuple((name, str(value)) for name, value in parameters.items() if value)


_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_NOT_ASCII = re.compile(rb"[\x7f-\xff]")


def encode(manifest: Manifest) -> bytes:
    """Return JSON that the server's YAML reader takes as JSON.

    Server-side apply bodies are read as YAML 1.1, which refuses some characters of JSON strings unless they are
    escaped, and refuses JSON's escapes for others (surrogate pairs), so those are sent as they are.
    """
    try:
        text = orjson.dumps(manifest)
    except TypeError:  # an integer of more than 64 bits, which the server will refuse in better words
        text = json.dumps(manifest, separators=(",", ":")).encode()
    if not _NOT_ASCII.search(text):
        return text
    return _NOT_IN_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", text.decode()).encode()


def secrets_of(manifest: Manifest) -> tuple[str, ...]:
    """Return the values of a Secret, which no message may repeat."""
    if manifest["kind"] != "Secret":
        return ()
    values = [*(manifest.get("data") or {}).values(), *(manifest.get("stringData") or {}).values()]
    return tuple(map(str, values))
