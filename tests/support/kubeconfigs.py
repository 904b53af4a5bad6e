"""Kubeconfigs without end: good ones of every kind, and what becomes of them when something in them is changed.

`Generator` needs a server's URL and its certificates; the same seed gives the same files. `what_kubectl_sends` is the
second opinion: the request that the real kubectl makes of such a file, if it makes any.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml
from aiohttp import web
from support.stub_server import StubServer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

EXEC_API = "client.authentication.k8s.io/v1"

# A plugin's token is what it was told, so that whoever sees the token sees that too.
PLUGIN = """#!/bin/sh
token=$(printf '%s' "$KUBERNETES_EXEC_INFO" | base64 -w 0)
printf '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "%s"}}' "$token"
"""

ANYTHING: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3.5, 2**53, "", " ", "x", "false", "true", "0", "1", "yes", "null", "~", "y"),
    *([], {}, [None], [1], ["a"], [[]], {"a": 1}, {"a": "b"}, {"a": ["b"]}, [{}], [{"name": "a", "value": "b"}]),
    *(
        "a\nb",
        "a\rb",
        "a\tb",
        "a\0b",
        "\x01",
        "\x1b[31m",
        "\x7f",
        "ü",
        "\U0001f600",
        "x" * 3000,
        "a b",
        "../x",
        "/",
        "2001-01-01",
    ),
)
SERVERS = (
    *(
        "https://127.0.0.1:99999",
        "https://[::1",
        "https://[::1]",
        "127.0.0.1:1",
        "//127.0.0.1",
        "https:127.0.0.1",
        "ftp://a",
    ),
    *(
        "https://",
        "https:///",
        "http://",
        "https://127.0.0.1:",
        "https://127.0.0.1:0",
        "https://127.0.0.1:-1",
        "https://u@127.0.0.1",
    ),
    *(
        "https://127.0.0.1:1/a%zz",
        "https://[fe80::1%25lo]:1",
        "https://a..b",
        "https://" + "a" * 300,
        "https://.a",
        "https://a_b.invalid",
    ),
    *(
        "https://127.0.0.1:1?a=b",
        "https://127.0.0.1:1#a",
        "https://127.0.0.1:1/ü",
        "https://ü.invalid",
        "https://[1.2.3.4]",
    ),
)
PROXIES = (
    *(
        "localhost:1",
        "127.0.0.1:1",
        "http://127.0.0.1:1",
        "https://127.0.0.1:1",
        "ftp://127.0.0.1:1",
        "http://",
        "http://127.0.0.1:99999",
    ),
    *(
        "http://u:p@127.0.0.1:1",
        "http://u%3A:p@127.0.0.1:1",
        "http://ü:p@127.0.0.1:1",
        "HTTP://127.0.0.1:1",
        "socks4://127.0.0.1:1",
    ),
)
_OUTLANDISH = 0.15
_EXTENSION = {"name": f"{EXEC_API.partition('/')[0]}/exec", "extension": {"a": [1]}}
_CONTEXT: dict[str, tuple[Any, ...]] = {
    "cluster": ("c", "spare", "nobody"),
    "user": ("u", "nobody", None),
    "namespace": ("team", "n", "Bad_NS", "a" * 64, "../x"),
}
_CONFIG: dict[str, tuple[Any, ...]] = {
    "kind": ("Config", "config", "List", None),
    "apiVersion": ("v1", "v2", "a/b/c", None),
    "current-context": ("c", "nobody", ""),
    "preferences": ({"colors": True}, {"colors": "x"}, None),
    "extensions": ([_EXTENSION], None),
}
HOSTS = ("", "127.0.0.1", "localhost", ".a", "a..b", "a" * 300, "ü", "[::1]", "::1", "a b", "https://a")


@dataclass(frozen=True)
class Sent:
    """A request as a server saw it: who it says that it is from. `certificate` is the client's, by its common name."""

    authorization: str
    impersonated: tuple[tuple[str, str], ...]
    certificate: str

    @property
    def told(self) -> Any:
        """What an exec plugin was told, if the token is one of `PLUGIN`'s."""
        try:
            return json.loads(base64.b64decode(self.authorization.removeprefix("Bearer "), validate=True))
        except ValueError:
            return None


@dataclass
class Witness:
    """A server that answers everything, and remembers how it was asked."""

    seen: list[Sent] = field(default_factory=list)

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        """Answer with an object that anybody takes for what he asked for."""
        peer = request.transport.get_extra_info("peercert") if request.transport else None
        names = dict(pair for part in (peer or {}).get("subject", ()) for pair in part)
        raw = ((key.decode("latin-1").lower(), value.decode("latin-1")) for key, value in request.raw_headers)
        self.seen.append(
            Sent(
                request.headers.get("Authorization", ""),
                tuple(sorted((key, value) for key, value in raw if key.startswith("impersonate-"))),
                names.get("commonName", ""),
            )
        )
        metadata = {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1"}
        return web.json_response({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})

    def server(self, tls: ssl.SSLContext) -> StubServer:
        """Return the server, which does not run yet."""
        return StubServer(self, tls)


class Generator:
    """Makes kubeconfigs: `good` ones, and `changed` ones."""

    def __init__(self, seed: int, url: str, folder: Path, files: dict[str, Path]) -> None:
        self._random = random.Random(seed)
        self._url = url
        self._folder = folder
        self._files = files
        self._plugin = folder / "plugin"
        self._plugin.write_text(PLUGIN)
        self._plugin.chmod(0o700)
        (folder / "token").write_text("from-file\n")

    def good(self) -> dict[str, Any]:
        """Return a kubeconfig that works."""
        cluster = {"server": self._url} | self._random.choice(
            [
                {"certificate-authority-data": self._data("authority")},
                {"certificate-authority": str(self._files["authority"])},
                {"insecure-skip-tls-verify": True},
            ]
        )
        plugin = {"apiVersion": EXEC_API, "command": "./plugin", "interactiveMode": "Never"}
        user = self._random.choice(
            [
                {},
                {"token": "secret-token"},
                {"tokenFile": "token"},
                {"token": "other", "tokenFile": "token"},
                {"username": "me", "password": "secret"},
                {"client-certificate-data": self._data("certificate"), "client-key-data": self._data("key")},
                {"client-certificate": str(self._files["certificate"]), "client-key": str(self._files["key"])},
                {"exec": plugin},
                {"exec": {**plugin, "provideClusterInfo": True, "args": ["a"], "env": [{"name": "A", "value": "b"}]}},
                {"exec": plugin, "token": "secret-token"},
                {"token": "t", "as": "jane", "as-groups": ["a", "b"], "as-user-extra": {"example.com/a b": ["c"]}},
            ]
        )
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "preferences": {},
            "clusters": [{"name": "c", "cluster": cluster}, {"name": "spare", "cluster": {"server": "https://spare"}}],
            "users": [{"name": "u", "user": deepcopy(user)}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
        }

    def changed(self) -> bytes:
        """Return the text of a kubeconfig in which one to three things were changed."""
        config = self.good()
        for _ in range(self._random.choice((1, 1, 1, 2, 3))):
            change = self._random.choices((self._set, self._replace, self._remove, self._double), (12, 3, 3, 1))[0]
            change(config)
        text = self.written(config)
        return self._damaged(text) if self._random.random() < 0.1 else text

    def written(self, config: dict[str, Any]) -> bytes:
        """Return a kubeconfig as a text, in JSON or one of the styles of YAML."""
        style = self._random.randrange(4)
        if style == 0:
            return json.dumps(config).encode()
        return yaml.safe_dump(config, default_flow_style=style == 1, allow_unicode=style == 2, width=60).encode()

    def _damaged(self, text: bytes) -> bytes:
        place, stray = (
            self._random.randrange(len(text)),
            self._random.choice((b"\0", b"\xff", b"{", b"]", b"\n", b"&a *a", b"'")),
        )
        return self._random.choice(
            (text[:place], text[:place] + stray + text[place:], text[:place] + text[place + 1 :])
        )

    def _replace(self, config: dict[str, Any]) -> None:
        parent, key = self._random.choice(list(_places(config)))
        parent[key] = deepcopy(self._random.choice(ANYTHING))

    def _remove(self, config: dict[str, Any]) -> None:
        parent, key = self._random.choice(list(_places(config)))
        del parent[key]

    def _double(self, config: dict[str, Any]) -> None:
        lists = [parent[key] for parent, key in _places(config) if isinstance(parent[key], list) and parent[key]]
        if lists:
            chosen = self._random.choice(lists)
            chosen.append(deepcopy(self._random.choice(chosen)))

    def _set(self, config: dict[str, Any]) -> None:
        """Give one field that there is another value, of a kind that it might have."""
        section, table = self._random.choice(list(self._fields().items()))
        name, values = self._random.choice(list(table.items()))
        for holder in _holders(config, section):
            pool = ANYTHING if self._random.random() < _OUTLANDISH else values
            holder[name] = deepcopy(self._random.choice(pool))

    def _fields(self) -> dict[str, dict[str, tuple[Any, ...]]]:
        """Return the values that each field of each section may be given."""
        return {
            "cluster": self._of_cluster(),
            "user": self._of_user(),
            "exec": self._of_exec(),
            "context": _CONTEXT,
            "config": _CONFIG,
        }

    def _of_cluster(self) -> dict[str, tuple[Any, ...]]:
        return {
            "server": (
                self._url,
                f"{self._url}/",
                f"{self._url}/a/b/",
                self._url.replace("https", "HTTPS"),
                *SERVERS,
            ),
            "tls-server-name": HOSTS,
            "insecure-skip-tls-verify": (True, False, "false", "true", "0", 0, 1, None),
            "certificate-authority": self._paths(),
            "certificate-authority-data": (self._data("authority"), *self._wrapped()),
            "proxy-url": PROXIES,
            "disable-compression": (True, False),
            "extensions": ([_EXTENSION], [_EXTENSION, _EXTENSION], [{"name": "a"}], [{"extension": 5}]),
        }

    def _of_user(self) -> dict[str, tuple[Any, ...]]:
        files, wrapped = self._paths(), self._wrapped()
        return {
            "token": ("t", "t\n", "t\r\nX-Evil: 1", " t "),
            "tokenFile": ("token", "missing", str(self._folder)),
            "username": ("me", "a:b", "ü"),
            "password": ("secret", "ü"),
            "client-certificate": (*files, str(self._files["certificate"])),
            "client-certificate-data": (self._data("certificate"), *wrapped),
            "client-key": files,
            "client-key-data": (self._data("key"), *wrapped),
            "as": ("jane", "ü", "a\nb"),
            "as-uid": ("7", 7),
            "as-groups": (["a"], [""], "a", ["a", None]),
            "as-user-extra": (
                {"a b": ["c"]},
                {"ü%/": ["c", ""]},
                {"A_b": ["c"]},
                {"a": "b"},
                {"a": None},
                {"a": [1]},
                {1: ["b"]},
            ),
            "exec": (None, {}),
            "auth-provider": (None, {}, {"name": "gcp"}, {"name": "azure", "config": {"a": "b"}}),
        }

    def _of_exec(self) -> dict[str, tuple[Any, ...]]:
        return {
            "command": (
                "./plugin",
                "plugin",
                "missing-program",
                "token",
                "/",
                "./missing",
                str(self._plugin),
                "a\0b",
            ),
            "args": (["a"], [1], None, "a", ["a\0b"]),
            "env": (
                [{"name": "A"}],
                [{"value": "b"}],
                [{"name": "A=B", "value": "b"}],
                [{"name": "A", "value": 1}],
                None,
            ),
            "apiVersion": (EXEC_API, f"{EXEC_API}beta1", f"{EXEC_API}alpha1", "v1"),
            "interactiveMode": ("Never", "IfAvailable", "Always", "never"),
            "provideClusterInfo": (True, False, "true"),
            "installHint": ("Install it.",),
        }

    def _paths(self) -> tuple[str, ...]:
        """Return paths: of files that are there, that are of another kind, and that are not there."""
        own = (str(self._files["authority"]), str(self._files["key"]))
        return (*own, "token", "missing", str(self._folder), "~/x")

    def _wrapped(self) -> tuple[str, ...]:
        """Return base64 as people and programs wrap it, cut it, or write something else."""
        data = self._data("authority")
        lines = "\n".join(data[at : at + 64] for at in range(0, len(data), 64))
        return (lines, f"{data}\n", f" {data}", data[:-3], "LS0=", "!")

    def _data(self, name: str) -> str:
        return base64.b64encode(self._files[name].read_bytes()).decode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place in a value: what it is in, and under which key or number."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from _places(item)


def _holders(config: dict[str, Any], section: str) -> Iterator[dict[str, Any]]:
    """Yield the maps that have the fields of a section, as far as there still are any."""
    if section == "config":
        yield config
        return
    kind = "user" if section == "exec" else section
    named = config.get(f"{kind}s")
    for item in named if isinstance(named, list) else ():
        found = item.get(kind) if isinstance(item, dict) else None
        found = found.get("exec") if section == "exec" and isinstance(found, dict) else found
        if isinstance(found, dict):
            yield found


async def what_kubectl_sends(kubectl: str, kubeconfig: Path, witness: Witness) -> tuple[Sent | None, str]:
    """Return the request that kubectl makes, None if it makes none, and what it says."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(kubeconfig.parent / "home")}
    witness.seen.clear()
    process = await asyncio.create_subprocess_exec(
        *(kubectl, "--kubeconfig", str(kubeconfig), "--request-timeout=5s", "get", "--raw", "/version"),
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    return (witness.seen[0] if witness.seen else None), said.decode("utf-8", "replace").strip()
