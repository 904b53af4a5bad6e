"""Which API server to talk to, and how: kubeconfig files as kubectl merges them, or the pod's service account.

Own code, although the official client reads kubeconfigs too: of several files it takes the last current-context, where
kubectl takes the first; it goes on anonymously after an exec plugin that failed; it takes `"false"` for true; it knows
neither impersonation nor a renewal after a 401; and it takes about 250 ms to import. Types and rules are client-go's:
https://github.com/kubernetes/client-go/tree/master/tools/clientcmd (api/v1/types.go, validation.go, client_config.go).
"""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from chronik.errors import KubeconfigError
from chronik.kube.checks.addresses import AddressError, check_host, is_loopback, proxy_address, server_address
from chronik.kube.checks.kubeconfig_file import parse
from chronik.kube.checks.self_contained import check_self_contained
from chronik.kube.credentials import (
    Access,
    AuthProvider,
    ExecPlugin,
    FixedToken,
    TokenFile,
    bearer,
    header_value,
    reason_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from chronik.clock import Clock
    from chronik.kube.credentials import Credentials, Pem
    from chronik.kube.interface import ConnectOptions

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
DEFAULT_KUBECONFIG = Path("~/.kube/config")
EXEC_EXTENSION = "client.authentication.k8s.io/exec"
"""The cluster's extension that an exec plugin gets as its `config`."""

_EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_EXEC_MODES = ("Never", "IfAvailable", "Always")
_NAMESPACE = re.compile("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_IN_HEADERS = "!#$&'*+^`|"
"""What a header's name may have in it besides what `quote` leaves alone; a % is always escaped."""


def find_access(
    options: ConnectOptions,
    environ: Mapping[str, str] = os.environ,
    service_account: Path = SERVICE_ACCOUNT,
) -> Access:
    """Return what to connect to: --kubeconfig, else $KUBECONFIG, else ~/.kube/config, else the pod's service account.

    Raises:
        KubeconfigError: there is nothing of that, or it cannot be used.
    """
    paths = _paths(options.kubeconfig, environ)
    files = [(path, content) for path in paths if (content := _content(path)) is not None]
    if files:
        return _from_kubeconfig(_Merged.of(files), options)
    if options.kubeconfig:
        raise KubeconfigError("no such file", subject=options.kubeconfig, hint=_NAME_ONE)
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    if host and os.path.exists(service_account / "token") and not options.context:  # noqa: PTH110  # False, too, if it may not be looked at
        return _from_pod(host, environ.get("KUBERNETES_SERVICE_PORT", "443"), options, service_account)
    where = f"neither $KUBECONFIG nor {DEFAULT_KUBECONFIG} is there"
    if environ.get("KUBECONFIG"):
        listed = ", ".join(map(str, paths)) or "no file"
        where = f"$KUBECONFIG names {listed}, {_NONE_THERE[min(len(paths), 2)]}".rstrip(", ")
    raise KubeconfigError(f"no kubeconfig: {where}, and this is no pod", hint=_NAME_ONE)


def handed_access(content: bytes, name: str, options: ConnectOptions) -> Access:
    """Return what a kubeconfig says that others have handed to us; `name` is what it is called in errors.

    Raises:
        KubeconfigError: it cannot be used, or would have us read files or run programs.
    """
    path = Path(name)
    check_self_contained(parse(path, content), name)
    return _from_kubeconfig(_Merged.of([(path, content)]), options)


def context_names(options: ConnectOptions, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the contexts of the kubeconfig files that would be used.

    Raises:
        KubeconfigError: a file cannot be read, or is no kubeconfig.
    """
    paths = _paths(options.kubeconfig, environ)
    files = [(path, content) for path in paths if (content := _content(path)) is not None]
    return list(_Merged.of(files).sections["context"])


_NAME_ONE = "Name a kubeconfig with --kubeconfig FILE."
_NONE_THERE = ("", "which does not exist", "none of which exists")


def _paths(named_file: str, environ: Mapping[str, str]) -> list[Path]:
    if named_file:
        return [Path(named_file).expanduser()]
    listed = environ.get("KUBECONFIG", "")
    if not listed:
        return [DEFAULT_KUBECONFIG.expanduser()]
    return [Path(part).expanduser() for part in dict.fromkeys(listed.split(os.pathsep)) if part]


def _content(path: Path) -> bytes | None:
    """Return what is in a file, None if there is none. It is read once: a pipe's content is gone then."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KubeconfigError(f"cannot be read: {error.strerror}", subject=str(path)) from error


def _from_pod(host: str, port: str, options: ConnectOptions, folder: Path) -> Access:
    origin = "the pod's service account"
    try:
        server = server_address(f"https://{f'[{host}]' if ':' in host else host}:{port}")
    except AddressError as error:
        raise KubeconfigError(f"the API server's address {error}", subject=origin) from error
    try:
        namespace = (folder / "namespace").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        namespace = ""
    return Access(
        server=server,
        origin=origin,
        namespace=options.namespace or namespace or "default",
        credentials=TokenFile(folder / "token", options.clock),
        authority=folder / "ca.crt",
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """A cluster, user or context, and the folder that its relative paths start from."""

    name: str
    value: dict[str, Any]
    folder: Path

    def text(self, key: str) -> str:
        """Return a text, empty if there is none."""
        found: str = self.value.get(key, "")
        return found

    def file(self, key: str) -> Path | None:
        """Return the path under a key.

        Raises:
            KubeconfigError: the file cannot be read.
        """
        if not self.text(key):
            return None
        path = self.folder / self.text(key)
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        except (OSError, ValueError) as error:
            raise self.error(f"{key} {path} cannot be read: {reason_of(error)}") from error
        return path

    def pem(self, key: str) -> Pem | None:
        """Return what is under `key-data`, or the path under `key`, or nothing.

        Raises:
            KubeconfigError: there is both, or the file cannot be read.
        """
        path, data = self.file(key), self.value.get(f"{key}-data")
        if path and data:
            raise self.error(f"{key} and {key}-data are both given: leave one of them out")
        return data or path

    def error(self, problem: str, hint: str = "") -> KubeconfigError:
        """Return an error about this entry."""
        return KubeconfigError(problem, subject=self.name, hint=hint)


@dataclass(frozen=True, slots=True)
class _Merged:
    """Several kubeconfig files as one: the first file that names something decides what it is.

    Source: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/#merging-kubeconfig-files
    """

    files: list[Path]
    current: str
    sections: dict[str, dict[str, _Entry]]

    @classmethod
    def of(cls, files: list[tuple[Path, bytes]]) -> _Merged:
        sections: dict[str, dict[str, _Entry]] = {"cluster": {}, "user": {}, "context": {}}
        current = ""
        for path, content in files:
            document = parse(path, content)
            current = current or document.get("current-context", "")
            for kind, entries in sections.items():
                for item in document.get(f"{kind}s", ()):
                    name = item.get("name", "")
                    entries.setdefault(name, _Entry(f"{kind} {name} in {path}", item.get(kind, {}), path.parent))
        return cls([path for path, _ in files], current, sections)

    @property
    def where(self) -> str:
        return "kubeconfig " + ", ".join(map(str, self.files))

    def entry(self, kind: str, name: str) -> _Entry:
        try:
            return self.sections[kind][name]
        except KeyError:
            known = ", ".join(sorted(self.sections[kind])) or "none"
            raise KubeconfigError(f"there is no {kind} {name!r}; there are: {known}", subject=self.where) from None


def _from_kubeconfig(merged: _Merged, options: ConnectOptions) -> Access:
    name = options.context or merged.current
    if not name:
        known = ", ".join(sorted(merged.sections["context"])) or "none"
        raise KubeconfigError("no current-context", subject=merged.where, hint=f"Choose with --context: {known}")
    context = merged.entry("context", name)
    cluster = merged.entry("cluster", context.text("cluster"))
    user = merged.entry("user", context.text("user")) if context.text("user") else _Entry("", {}, Path())
    server, authority, verify = _address(cluster, "server", server_address), *_trust(cluster)
    certificate = _certificate(user)
    return Access(
        server=server,
        origin=f"{merged.where}, context {name}",
        namespace=options.namespace or _namespace(context),
        credentials=_credentials(user, cluster, server, options.clock),
        authority=authority,
        certificate=certificate,
        verify=verify,
        server_name=_address(cluster, "tls-server-name", check_host) if cluster.text("tls-server-name") else "",
        proxy=_address(cluster, "proxy-url", proxy_address) if cluster.text("proxy-url") else "",
        headers=(*_impersonation(user), *(_UNCOMPRESSED if cluster.value.get("disable-compression") else ())),
    )


_UNCOMPRESSED = (("Accept-Encoding", "identity"),)


def _address(cluster: _Entry, key: str, parse: Callable[[str], str]) -> str:
    try:
        return parse(cluster.text(key))
    except AddressError as error:
        raise cluster.error(f"{key} {error}") from error


def _trust(cluster: _Entry) -> tuple[Pem | None, bool]:
    """Return whom to trust, and whether the server's certificate is verified at all."""
    authority, skip = cluster.pem("certificate-authority"), cluster.value.get("insecure-skip-tls-verify", False)
    if authority and skip:
        problem = "insecure-skip-tls-verify and a certificate-authority exclude each other"
        raise cluster.error(problem, "Leave out insecure-skip-tls-verify, and the server is verified.")
    return authority, not skip


def _namespace(context: _Entry) -> str:
    namespace = context.text("namespace") or "default"
    if not _NAMESPACE.fullmatch(namespace):
        problem = f"namespace must be lower case letters, digits and dashes, at most 63, is {namespace!r}"
        raise context.error(problem)
    return namespace


def _certificate(user: _Entry) -> tuple[Pem, Pem] | None:
    """Return the client's certificate and key; a key alone is ignored, as by kubectl."""
    certificate = user.pem("client-certificate")
    if certificate is None:
        return None
    key = user.pem("client-key")
    if key is None:
        raise user.error("client-certificate is given without a client-key")
    return certificate, key


def _credentials(user: _Entry, cluster: _Entry, server: str, clock: Clock) -> Credentials:
    """Return what kubectl would use: a token before a password, a certificate before a plugin.

    Nothing that proves who we are goes over plain http, but to this machine itself.
    """
    value, token, name = user.value, user.text("token"), user.text("username")
    has_token = bool(token or user.text("tokenFile"))
    if (has_token and name) or (token and user.text("password")):
        raise user.error("token and username exclude each other: leave one of them out")
    _check_plugin(user)
    if server.startswith("http:") and not is_loopback(server):
        return FixedToken()
    if user.text("tokenFile"):
        return TokenFile(user.folder / user.text("tokenFile"), clock, token, user.name)
    if token:
        return FixedToken(bearer(token, user.name))
    if name:
        pair = base64.b64encode(f"{name}:{user.text('password')}".encode()).decode()
        return FixedToken(f"Basic {pair}")
    if "exec" in value and _certificate(user) is None:
        plugin = value["exec"]
        about = _cluster_info(cluster, server) if plugin.get("provideClusterInfo") else None
        return ExecPlugin(_located(plugin, user.folder), clock, about)
    if "auth-provider" in value:
        return AuthProvider(_alone(user, cluster), clock, f"{user.name}: auth-provider")
    return FixedToken()


def _check_plugin(user: _Entry) -> None:
    """Refuse an exec or auth-provider section that kubectl would not use."""
    plugin, provider = user.value.get("exec"), user.value.get("auth-provider")
    if provider is not None and plugin is not None:
        raise user.error("exec and auth-provider exclude each other: leave one of them out")
    if provider is not None and provider.get("name") != "oidc":
        problem = f"auth-provider.name must be oidc, is {provider.get('name', '')!r}"
        raise user.error(problem, "Other providers were replaced by exec plugins, such as gke-gcloud-auth-plugin.")
    if plugin is None:
        return
    version, mode = plugin.get("apiVersion", ""), plugin.get("interactiveMode", "")
    if not plugin.get("command"):
        raise user.error("exec.command is missing")
    if version not in _EXEC_VERSIONS:
        raise user.error(f"exec.apiVersion must be {' or '.join(_EXEC_VERSIONS)}, is {version!r}")
    if mode not in _EXEC_MODES and (mode or version == _EXEC_VERSIONS[0]):
        raise user.error(f"exec.interactiveMode must be {' or '.join(_EXEC_MODES)}, is {mode!r}")
    if any(not each.get("name") for each in plugin.get("env", ())):
        raise user.error("exec.env has a variable without a name")


def _cluster_info(cluster: _Entry, server: str) -> dict[str, Any]:
    """Return what an exec plugin is told about the cluster.

    Source: https://kubernetes.io/docs/reference/config-api/client-authentication.v1/#client-authentication-k8s-io-v1-Cluster
    """
    authority = cluster.pem("certificate-authority")
    try:
        data = authority.read_bytes() if isinstance(authority, Path) else authority
    except OSError as error:
        raise cluster.error(f"certificate-authority cannot be read: {error.strerror}") from error
    extensions = {each.get("name", ""): each.get("extension") for each in cluster.value.get("extensions", ())}
    about = {
        "server": server,
        "tls-server-name": cluster.text("tls-server-name"),
        "insecure-skip-tls-verify": cluster.value.get("insecure-skip-tls-verify"),
        "certificate-authority-data": base64.b64encode(data).decode() if data else "",
        "proxy-url": cluster.text("proxy-url"),
        "disable-compression": cluster.value.get("disable-compression"),
    }
    return {key: found for key, found in about.items() if found} | {"config": extensions.get(EXEC_EXTENSION)}


def _located(plugin: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return an exec section whose command, if it is a relative path, is one from the kubeconfig's folder."""
    command = plugin["command"]
    return {**plugin, "command": str(folder / command)} if "/" in command else plugin


def _alone(user: _Entry, cluster: _Entry) -> dict[str, Any]:
    """Return a kubeconfig of one context, for the official client."""
    return {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": cluster.text("server")}}],
        "users": [{"name": "u", "user": user.value}],
    }


def _impersonation(user: _Entry) -> Iterator[tuple[str, str]]:
    """Yield the headers of a user that acts as another: as, as-uid, as-groups, as-user-extra."""
    others = [key for key in ("as-uid", "as-groups", "as-user-extra") if user.value.get(key)]
    if others and not user.text("as"):
        raise user.error(f"{others[0]} needs an `as`: the user to act as")
    yield from _headers(user, "as", "Impersonate-User", [user.text("as")] if user.text("as") else ())
    yield from _headers(user, "as-uid", "Impersonate-Uid", [user.text("as-uid")] if user.text("as-uid") else ())
    yield from _headers(user, "as-groups", "Impersonate-Group", user.value.get("as-groups", ()))
    for key, values in user.value.get("as-user-extra", {}).items():
        yield from _headers(user, "as-user-extra", f"Impersonate-Extra-{quote(key, safe=_IN_HEADERS)}", values)


def _headers(user: _Entry, key: str, name: str, values: Iterable[str]) -> Iterator[tuple[str, str]]:
    return ((name, header_value(value, user.name, key)) for value in values)
