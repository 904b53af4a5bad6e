"""What the two API servers of the test suite have in common: how to reach them and what they remember.

`real_server.RealServer` and `fake_server.FakeServer` are both an `ApiServer`, so an integration test that takes the
fixture `server` cannot tell which one it talks to, and need not.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
import uuid
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from chronik.kube.requests import encode

if TYPE_CHECKING:
    from collections.abc import Iterator
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


class Watch:
    """A running watch: iterate over it for its events, bookmarks included."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.code = response.status
        self._response = response

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield events as they come, until the server ends the watch."""
        for line in self._response:
            yield json.loads(line)

    def refused(self) -> Any:
        """Return what the server said instead of starting the watch."""
        return _decode(self._response)


class ApiServer(ABC):
    """A running API server: `url`, `token` (of the admin), `ca` (a file, or None for plain HTTP) and `kubeconfig`."""

    url: str
    token: str = ADMIN
    ca: Path | None = None
    kubeconfig: Path
    _hung_up: int = 0

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

    def drop_namespace(self, name: str) -> None:  # noqa: B027  # a real server keeps it: to delete one takes seconds
        """Forget a namespace that no test will look at again, where that is cheap."""

    def install(self, definitions: list[dict[str, Any]]) -> None:
        """Apply CustomResourceDefinitions and admission policies; `wait_served` tells when the kinds are there."""
        for manifest in definitions:
            kind, name = manifest["kind"].lower(), manifest["metadata"]["name"]
            plural = kind.removesuffix("y") + "ies" if kind.endswith("y") else f"{kind}s"
            path = f"/apis/{manifest['apiVersion']}/{plural}/{name}"
            answer = self.call("PATCH", path, manifest, fieldManager="suite", force=True)
            if answer.code not in {HTTPStatus.OK, HTTPStatus.CREATED}:
                raise RuntimeError(f"{path} was not installed: {answer.body}")

    def wait_served(self, path: str, seconds: float = 90) -> None:
        """Wait until a collection answers, which takes a moment after its definition was installed."""
        deadline = time.monotonic() + seconds
        while self.call("GET", path).code != HTTPStatus.OK:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{path} is not served after {seconds} s")
            time.sleep(0.05)

    def requests_of(self, namespace: str) -> list[Request]:
        """Return what was asked about the objects of one namespace."""
        return [request for request in self.requests() if request.namespace == namespace]

    def call(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **options: str | bool | None
    ) -> Answer:
        """Send one raw request and return the answer, whatever its code.

        `options` become the query (`fieldManager="x"`, `dryRun="All"`), except `patch`, which names the content type
        of a PATCH: apply (the default), merge or json. Server-side apply takes JSON, because JSON is YAML. A body of
        bytes is sent as it is.
        """
        request = self._request(method, path, body, token, options)
        hung_up = self._hung_up
        while True:
            try:
                connection, idle = self._idle.pop(), True
            except IndexError:
                connection, idle = self._connect(), False
            try:
                connection.request(*request)
                response = connection.getresponse()
                answer = Answer(response.status, _decode(response), _headers(response))
            except BaseException as error:
                connection.close()
                if idle and isinstance(error, ConnectionError | ssl.SSLEOFError):  # the server had long hung up
                    continue
                raise
            self._idle.append(connection)
            if hung_up != self._hung_up:  # meanwhile, in another thread: nobody else will close this one
                self.hang_up()
            return answer

    @contextmanager
    def watch(self, path: str, *, token: str | None = None, **options: str | bool | None) -> Iterator[Watch]:
        """Watch a collection while the block runs; `timeoutSeconds` ends it earlier, from the server's side."""
        connection = self._connect()
        try:
            connection.request(*self._request("GET", path, None, token, options | {"watch": True}))
            yield Watch(connection.getresponse())
        finally:
            connection.close()

    def hang_up(self) -> None:
        """Close the connections that `call` keeps open; `stop` does it first."""
        self._hung_up += 1
        while self._idle:
            self._idle.pop().close()

    def _request(
        self, method: str, path: str, body: Any, token: str | None, options: dict[str, Any]
    ) -> tuple[str, str, bytes | None, dict[str, str]]:
        kind = PATCH_TYPES[options.pop("patch", "apply")] if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {token or self.token}", "Content-Type": kind, "User-Agent": "suite"}
        query = {key: str(value).lower() if isinstance(value, bool) else value for key, value in options.items()}
        if body is not None and not isinstance(body, bytes):
            body = encode(body) if kind.endswith("yaml") else json.dumps(body).encode()
        return method, f"{path}?{urlencode(query)}" if query else path, body, headers

    @cached_property
    def _idle(self) -> list[http.client.HTTPConnection]:
        return []

    def _connect(self) -> http.client.HTTPConnection:
        target = urlsplit(self.url)
        host, port = str(target.hostname), target.port
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=30)
        return http.client.HTTPSConnection(host, port, timeout=30, context=self._tls)

    @cached_property
    def _tls(self) -> ssl.SSLContext | None:
        return ssl.create_default_context(cafile=str(self.ca)) if self.ca else None


def _headers(response: http.client.HTTPResponse) -> dict[str, str]:
    """Return the headers in lower case; those that come twice (Warning) joined."""
    names = {name.lower() for name, _ in response.getheaders()}
    return {name: ", ".join(response.headers.get_all(name, [])) for name in names}


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
