"""Which API server to talk to, and how: kubeconfig files as kubectl merges them, or the pod's service account.

Own code, although the official client reads kubeconfigs too: of several files it takes the last current-context, where
kubectl takes the first; it goes on anonymously after an exec plugin that failed; it knows neither impersonation nor a
renewal after a 401; and it takes about 250 ms to import.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from chronik.errors import KubeconfigError
from chronik.kube.credentials import Access, AuthProvider, Credentials, ExecPlugin, FixedToken, TokenFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.clock import Clock
    from chronik.kube.credentials import Pem
    from chronik.kube.interface import ConnectOptions

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
DEFAULT_KUBECONFIG = Path("~/.kube/config")


def find_access(
    options: ConnectOptions,
    environ: Mapping[str, str] = os.environ,
    service_account: Path = SERVICE_ACCOUNT,
) -> Access:
    """Return what to connect to: --kubeconfig, else $KUBECONFIG, else ~/.kube/config, else the pod's service account.

    Raises:
        KubeconfigError: there is nothing of that, or it cannot be used.
    """
    files = _kubeconfig_files(options.kubeconfig, environ)
    if files:
        return _from_kubeconfig(_Merged.read(files), options)
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    if host and (service_account / "token").exists() and not options.context:
        return _from_pod(host, environ.get("KUBERNETES_SERVICE_PORT", "443"), options, service_account)
    raise KubeconfigError(
        f"no kubeconfig: neither $KUBECONFIG nor {DEFAULT_KUBECONFIG} is there, and this is no pod",
        hint="Name one with --kubeconfig FILE.",
    )


def _kubeconfig_files(named: str, environ: Mapping[str, str]) -> list[Path]:
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise KubeconfigError("no such file", subject=named, hint="Name a kubeconfig with --kubeconfig FILE.")
        return [path]
    listed = environ.get("KUBECONFIG", "").split(os.pathsep)
    candidates = [Path(part).expanduser() for part in listed if part] or [DEFAULT_KUBECONFIG.expanduser()]
    return [path for path in candidates if path.is_file()]


def _from_pod(host: str, port: str, options: ConnectOptions, folder: Path) -> Access:
    namespace = folder / "namespace"
    return Access(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        origin="the pod's service account",
        namespace=options.namespace or (namespace.read_text("utf-8").strip() if namespace.exists() else "default"),
        credentials=TokenFile(folder / "token", options.clock),
        authority=folder / "ca.crt",
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """A cluster, user or context, and the folder that its relative paths start from."""

    name: str
    value: dict[str, Any]
    folder: Path

    def source(self, key: str) -> Pem | None:
        """Return `key-data` decoded, else the path under `key`, else nothing; data wins, as for kubectl."""
        data = self.value.get(f"{key}-data")
        if data:
            try:
                return base64.b64decode(data, validate=True)
            except (binascii.Error, TypeError) as error:
                raise KubeconfigError(f"{key}-data is not base64", subject=self.name) from error
        path = self.value.get(key)
        return self.folder / Path(path).expanduser() if path else None


@dataclass(frozen=True, slots=True)
class _Merged:
    """Several kubeconfig files as one: whoever names something first has named it.

    Pem: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/#merging-kubeconfig-files
    """

    files: list[Path]
    current: str
    sections: dict[str, dict[str, _Entry]]

    @classmethod
    def read(cls, files: list[Path]) -> _Merged:
        sections: dict[str, dict[str, _Entry]] = {"cluster": {}, "user": {}, "context": {}}
        current = ""
        for path in files:
            document = _parse(path)
            current = current or document.get("current-context") or ""
            for kind, entries in sections.items():
                for item in document.get(f"{kind}s") or ():
                    name = str(item["name"])
                    entries.setdefault(name, _Entry(f"{kind} {name} in {path}", item.get(kind) or {}, path.parent))
        return cls(files, current, sections)

    @property
    def where(self) -> str:
        return "kubeconfig " + ", ".join(map(str, self.files))

    def entry(self, kind: str, name: str) -> _Entry:
        try:
            return self.sections[kind][name]
        except KeyError:
            known = ", ".join(sorted(self.sections[kind])) or "none"
            raise KubeconfigError(f"there is no {kind} {name!r}; there are: {known}", subject=self.where) from None


def _parse(path: Path) -> dict[str, Any]:
    import yaml  # noqa: PLC0415  # a pod needs none

    try:
        document = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  # safe
    except (OSError, yaml.YAMLError) as error:
        raise KubeconfigError(f"cannot be read: {error}", subject=str(path)) from error
    document = {} if document is None else document
    if not isinstance(document, dict) or not all(
        isinstance(item, dict) and "name" in item
        for section in ("clusters", "users", "contexts")
        for item in document.get(section) or ()
    ):
        raise KubeconfigError("is no kubeconfig: clusters, users and contexts are lists of names", subject=str(path))
    return document


def _from_kubeconfig(merged: _Merged, options: ConnectOptions) -> Access:
    name = options.context or merged.current
    if not name:
        known = ", ".join(sorted(merged.sections["context"])) or "none"
        raise KubeconfigError("no current-context", subject=merged.where, hint=f"Choose with --context: {known}")
    context = merged.entry("context", name).value
    cluster = merged.entry("cluster", str(context.get("cluster", "")))
    user = merged.entry("user", str(context["user"])) if context.get("user") else _Entry("", {}, Path())
    server = str(cluster.value.get("server", "")).rstrip("/")
    if urlsplit(server).scheme not in {"http", "https"} or not urlsplit(server).hostname:
        raise KubeconfigError(f"server must be http(s)://HOST, is {server!r}", subject=cluster.name)
    certificate, key = user.source("client-certificate"), user.source("client-key")
    return Access(
        server=server,
        origin=f"{merged.where}, context {name}",
        namespace=options.namespace or str(context.get("namespace") or "default"),
        credentials=_credentials(user, cluster, options.clock),
        authority=cluster.source("certificate-authority"),
        certificate=(certificate, key) if certificate and key else None,
        verify=not cluster.value.get("insecure-skip-tls-verify", False),
        server_name=str(cluster.value.get("tls-server-name", "")),
        proxy=str(cluster.value.get("proxy-url", "")),
        headers=tuple(_impersonation(user.value)),
    )


def _credentials(user: _Entry, cluster: _Entry, clock: Clock) -> Credentials:
    value = user.value
    if "exec" in value:
        return ExecPlugin(_located(value["exec"], user.folder), clock)
    if "auth-provider" in value:
        return AuthProvider(_alone(user, cluster), clock)
    if value.get("tokenFile"):
        return TokenFile(user.folder / Path(value["tokenFile"]).expanduser(), clock)
    if value.get("token"):
        return FixedToken(f"Bearer {value['token']}")
    if value.get("username"):
        pair = f"{value['username']}:{value.get('password', '')}"
        return FixedToken(f"Basic {base64.b64encode(pair.encode()).decode()}")
    return FixedToken()


def _located(plugin: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return an exec section whose command, if it is a relative path, is one from the kubeconfig's folder."""
    command = str(plugin.get("command", ""))
    return {**plugin, "command": str(folder / command)} if "/" in command else plugin


def _alone(user: _Entry, cluster: _Entry) -> dict[str, Any]:
    """Return a kubeconfig of one context, for the official client."""
    return {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": cluster.value.get("server", "")}}],
        "users": [{"name": "u", "user": user.value}],
    }


def _impersonation(user: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the headers of a user that acts as another: as, as-uid, as-groups, as-user-extra."""
    headers = [("Impersonate-User", user.get("as")), ("Impersonate-Uid", user.get("as-uid"))]
    headers += [("Impersonate-Group", group) for group in user.get("as-groups") or ()]
    extra = user.get("as-user-extra") or {}
    headers += [(f"Impersonate-Extra-{key}", value) for key, values in extra.items() for value in values]
    return [(name, str(value)) for name, value in headers if value]
