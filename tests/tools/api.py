"""What the two API servers of the test suite have in common: how to reach them and what they remember.

`real_server.RealServer` and `fake_server.FakeServer` are both an `ApiServer`, so an integration test that takes the
fixture `server` cannot tell which one it talks to, and need not.
"""

from __future__ import annotations

import http.client
import json
import ssl
import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

if TYPE_CHECKING:
    from pathlib import Path

ADMIN = "admin"
USERS = ("alice", "bob", "nobody")
"""Users without any right of their own; a user's token is the user's name."""

WRITE_VERBS = frozenset({"create", "update", "patch", "delete", "deletecollection"})
PATCH_TYPES = {
    "apply": "application/apply-patch+yaml",
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: the HTTP status code, the decoded body, and the headers in lower case."""

    code: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the server saw it, be it from the audit log or from the stand-in's own.

    Bodies are kept for writes only. A watch is listed when it starts, everything else when it was answered.
    """

    verb: str
    method: str
    path: str
    query: dict[str, str]
    resource: str
    namespace: str
    name: str
    subresource: str
    user: str
    user_agent: str
    code: int
    body: Any = None

    @property
    def writes(self) -> bool:
        """Tell whether the request was meant to change something: a write verb, and no dry run."""
        return self.verb in WRITE_VERBS and "dryRun" not in self.query


class ApiServer(ABC):
    """A running API server: `url`, `token` (of the admin), `ca` (a file, or None for plain HTTP) and `kubeconfig`."""

    url: str
    token: str = ADMIN
    ca: Path | None = None
    kubeconfig: Path

    @abstractmethod
    def requests(self) -> list[Request]:
        """Return everything asked so far, oldest first; the server's own requests are left out."""

    @abstractmethod
    def stop(self) -> None:
        """Stop the server and remove what it wrote to disk."""

    def new_namespace(self, labels: dict[str, str] | None = None) -> str:
        """Create a namespace that nobody else uses, and return its name."""
        name = f"test-{uuid.uuid4().hex[:8]}"
        answer = self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels or {}}})
        if answer.code != HTTPStatus.CREATED:
            raise RuntimeError(f"namespace {name} was not created: {answer.body}")
        return name

    def requests_of(self, namespace: str) -> list[Request]:
        """Return what was asked about the objects of one namespace."""
        return [request for request in self.requests() if request.namespace == namespace]

    def call(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **options: str | bool | None
    ) -> Answer:
        """Send one raw request and return the answer, whatever its code.

        `options` become the query (`fieldManager="x"`, `dryRun="All"`), except `patch`, which names the content type
        of a PATCH: apply (the default), merge or json. Server-side apply takes JSON, because JSON is YAML.
        """
        kind = PATCH_TYPES[str(options.pop("patch", "apply"))] if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {token or self.token}", "Content-Type": kind, "User-Agent": "suite"}
        query = {key: str(value).lower() if isinstance(value, bool) else value for key, value in options.items()}
        data = None if body is None else json.dumps(body).encode()
        connection = self._connect()
        try:
            connection.request(method, f"{path}?{urlencode(query)}" if query else path, data, headers)
            response = connection.getresponse()
            return Answer(response.status, _decode(response), {k.lower(): v for k, v in response.getheaders()})
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        target = urlsplit(self.url)
        host, port = str(target.hostname), target.port
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=30)
        return http.client.HTTPSConnection(host, port, timeout=30, context=self._tls)

    @cached_property
    def _tls(self) -> ssl.SSLContext | None:
        return ssl.create_default_context(cafile=str(self.ca)) if self.ca else None


def _decode(response: http.client.HTTPResponse) -> Any:
    text = response.read().decode()
    return json.loads(text) if "json" in response.headers.get("Content-Type", "") else text


def write_kubeconfig(path: Path, server: ApiServer, users: tuple[str, ...] = (ADMIN, *USERS)) -> Path:
    """Write a kubeconfig with one context per user, the first one current, and return its path."""
    cluster = {"server": server.url} | ({"certificate-authority": str(server.ca)} if server.ca else {})
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": users[0],
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": user}} for user in users],
        "contexts": [{"name": user, "context": {"cluster": "test", "user": user}} for user in users],
    }
    path.write_text(json.dumps(config))
    return path


def query_of(url: str) -> tuple[str, dict[str, str]]:
    """Split a request target into its path and its query."""
    parts = urlsplit(url)
    return parts.path, dict(parse_qsl(parts.query, keep_blank_values=True))
