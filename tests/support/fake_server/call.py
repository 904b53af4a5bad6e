"""A request to the stand-in, taken apart: what URL, headers and body say. `fake_api` answers it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import yaml
from support import api_errors as errors
from support.api import PATCH_TYPES, Request
from support.fake_server.rbac import ANONYMOUS
from support.fake_server.request import Options

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_SURROGATE = re.compile(rb"\\u[dD][89abAB]")
_PATCHES = {content_type: name for name, content_type in PATCH_TYPES.items()}


@dataclass(frozen=True)
class Call:
    """A request, taken apart."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    raw: bytes
    group: str = ""
    version: str = ""
    plural: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    user: str = ANONYMOUS

    @classmethod
    def parse(cls, method: str, path: str, query: dict[str, str], headers: Mapping[str, str], raw: bytes) -> Self:
        """Take a request apart; only paths of API objects have parts."""
        token = headers.get("Authorization", "").removeprefix("Bearer ") or ANONYMOUS
        parts = path.strip("/").split("/")
        common = {"user": token}
        if parts[:1] == ["api"] and len(parts) > 2:
            return cls(method, path, query, headers, raw, "", parts[1], **_place(parts[2:]), **common)
        if parts[:1] == ["apis"] and len(parts) > 3:
            return cls(method, path, query, headers, raw, parts[1], parts[2], **_place(parts[3:]), **common)
        return cls(method, path, query, headers, raw, **common)

    @property
    def watches(self) -> bool:
        """Tell whether the request asks for a stream of events."""
        return self.method == "GET" and bool(self.plural) and self.query.get("watch") in {"true", "1"}

    @property
    def verb(self) -> str:
        """The verb as audit logs and roles name it."""
        if self.watches:
            return "watch"
        verb = _VERBS.get(self.method, self.method.lower())
        return {"get": "list", "delete": "deletecollection"}.get(verb, verb) if self.plural and not self.name else verb

    @property
    def body(self) -> Any:
        """The decoded body: JSON, or YAML as server-side apply allows; None if there is none."""
        if not self.raw:
            return None
        try:
            return json.loads(self.raw)
        except ValueError:
            return yaml.safe_load(self.raw)

    @property
    def patch(self) -> str:
        """How a PUT or PATCH changes its object: put, apply, merge or json; raise if the options do not fit."""
        if self.method == "PUT":
            return "put"
        how = _PATCHES.get(self.headers.get("Content-Type", "").split(";")[0])
        if how is None:
            raise errors.ApiError(415, "UnsupportedMediaType", "the body of the request was in an unknown format", {})
        what = errors.Named("PatchOptions", "meta.k8s.io")
        if how == "apply" and not self.query.get("fieldManager"):
            raise errors.invalid(what, [errors.required("fieldManager", "is required for apply patch")])
        if how != "apply" and "force" in self.query:
            raise errors.invalid(what, [errors.forbidden_field("force", "may not be specified for non-apply patch")])
        if how == "apply" and _SURROGATE.search(self.raw):
            cause = "error converting YAML to JSON: yaml: found invalid Unicode character escape code"
            raise errors.bad_request(f"error decoding YAML: {cause}")
        return how

    def options(self) -> Options:
        """Return how the request wants it done."""
        agent = self.headers.get("User-Agent", "").split("/")[0]
        return Options(
            dry_run=bool(self.query.get("dryRun")),
            manager=self.query.get("fieldManager") or agent,
            force=self.query.get("force") == "true",
            validation=self.query.get("fieldValidation") or "Warn",
        )

    def logged(self, code: int) -> Request:
        """Return the entry for the log of requests."""
        return Request(
            self.verb,
            self.method,
            self.path,
            self.query,
            self.plural,
            self.name if self.plural == "namespaces" else self.namespace,
            self.name,
            self.subresource,
            self.user,
            self.headers.get("User-Agent", ""),
            code,
            self.body if self.method != "GET" else None,
        )


def _place(parts: list[str]) -> dict[str, str]:
    if parts[0] == "namespaces" and len(parts) > 2 and parts[2] not in {"status", "finalize"}:
        namespace, parts = parts[1], parts[2:]
    else:
        namespace = ""
    fields = dict(zip(("plural", "name", "subresource"), parts, strict=False))
    return fields | {"namespace": namespace}
