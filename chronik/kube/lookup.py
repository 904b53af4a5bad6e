"""Names of contexts, namespaces and clusters for shell completion: at once, or none.

A shell that waits for a name is worse than one that knows none. So this asks by the standard library's HTTP client,
because the one of all other requests takes as long to import as a whole answer may take; it asks once, without a retry,
and whatever goes wrong, or takes too long, means no names. No proxy is used, so behind one there are none.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from contextlib import closing, suppress
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode, urlsplit

from chronik.kube.kubeconfig import context_names, find_access
from chronik.kube.tls import make_context
from chronik.manifest import CLUSTER, CLUSTER_LABEL, KIND_BY_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronik.kube.credentials import Access
    from chronik.kube.interface import ConnectOptions

Looked = Literal["contexts", "namespaces", "clusters"]

_MOST = 500
_NAMES_ALONE = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"


def names_within(seconds: float, what: Looked, options: ConnectOptions) -> list[str]:
    """Return the names of something, in order; none if they cannot be had within some seconds, for whatever reason."""
    found: list[str] = []

    def look() -> None:
        with suppress(Exception):
            found.extend(_LOOKS[what](options))

    looking = Thread(target=look, daemon=True)  # a process does not wait for those at its end
    looking.start()
    looking.join(max(0.0, seconds))
    return [] if looking.is_alive() else sorted({*found})


def _namespaces(options: ConnectOptions) -> list[str]:
    access = find_access(options)
    with closing(_connection(access)) as connection:
        return [each["metadata"]["name"] for each in _items(connection, access, "/api/v1/namespaces")]


def _clusters(options: ConnectOptions) -> list[str]:
    """Return the clusters of a namespace, with or without an operator."""
    access = find_access(options)
    kinds = {CLUSTER: "", KIND_BY_NAME["StatefulSet"]: CLUSTER_LABEL}
    names: list[str] = []
    with closing(_connection(access)) as connection:
        for kind, label in kinds.items():
            path = f"/apis/{kind.api_version}/namespaces/{access.namespace}/{kind.plural}"
            for each in _items(connection, access, path, label):
                metadata = each["metadata"]
                names.append(metadata["labels"][label] if label else metadata["name"])
    return names


_LOOKS: dict[Looked, Callable[[ConnectOptions], list[str]]] = {
    "contexts": context_names,
    "namespaces": _namespaces,
    "clusters": _clusters,
}


def _connection(access: Access) -> http.client.HTTPConnection:
    """Connect by hand, because the name in the server's certificate may be another one than the host's."""
    server = urlsplit(access.server)
    host, tls = server.hostname or "", make_context(access)
    if access.proxy:
        raise ConnectionError("a proxy is between us")
    connection = http.client.HTTPConnection(host, server.port or (443 if tls else 80))
    connection.sock = socket.create_connection((connection.host, connection.port))
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or a second request waits 40 ms
    if tls is not None:
        connection.sock = tls.wrap_socket(connection.sock, server_hostname=access.server_name or host)
    return connection


def _items(connection: http.client.HTTPConnection, access: Access, path: str, label: str = "") -> list[dict[str, Any]]:
    """Return what a collection has, its metadata at least; nothing if the server refuses or does not know it."""
    query = urlencode({"limit": _MOST} | ({"labelSelector": label} if label else {}))
    headers = dict(access.headers) | {"Accept": _NAMES_ALONE}
    authorization = asyncio.run(access.credentials.authorization())
    if authorization:
        headers["Authorization"] = authorization
    connection.request("GET", f"{urlsplit(access.server).path}{path}?{query}", headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    return list(json.loads(body)["items"] or ()) if answer.status == http.client.OK else []  # null if there are none
