"""Who we are to the API server: fixed tokens, token files that are rotated, exec plugins, old auth providers.

This is all that the official client (`kubernetes.aio`) is used for: it is the source of credentials, by running exec
plugins and auth providers. It chooses no context and sends no request to the API server: `kubeconfig` and `transport`
say why. It is imported only when a plugin or a provider is run, because that takes a quarter of a second.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from chronik.errors import KubeconfigError

if TYPE_CHECKING:
    from chronik.clock import Clock

TOKEN_FILE_SECONDS = 60.0  # as client-go: the kubelet replaces a token long before it runs out
PLUGIN_SECONDS = 300.0  # it may ask a person to log in
EARLY_SECONDS = 60.0  # a plugin's token is renewed so long before it runs out


@dataclass(frozen=True, slots=True)
class Certificate:
    """A client certificate and its key, in PEM."""

    certificate: bytes
    key: bytes


class Credentials(Protocol):
    """What proves who we are; either part may be missing."""

    async def authorization(self) -> str:
        """Return the value of the Authorization header, or an empty string. Fast, but for the times it is renewed."""

    async def renew(self, rejected: str) -> bool:
        """Get new credentials, because `rejected` was refused; return whether there is anything new to try."""

    @property
    def certificate(self) -> Certificate | None:
        """The client certificate that a plugin handed out, if it did."""


Pem = Path | bytes
"""PEM: a file that may be rotated, or the text itself."""


@dataclass(frozen=True, slots=True)
class Access:
    """An API server, and what it takes to be let in; `origin` says in words where that was found."""

    server: str
    origin: str
    namespace: str
    credentials: Credentials
    authority: Pem | None = None
    certificate: tuple[Pem, Pem] | None = None
    verify: bool = True
    server_name: str = ""
    proxy: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class FixedToken:
    """A header that never changes: a token or a password from the kubeconfig, or nothing."""

    certificate: Certificate | None = None

    def __init__(self, header: str = "") -> None:
        self._header = header

    async def authorization(self) -> str:
        """Return the header."""
        return self._header

    async def renew(self, rejected: str) -> bool:
        """Do nothing: there is nothing newer."""
        return self._header != rejected


class TokenFile:
    """A token in a file that somebody else rotates, as the kubelet does with a service account's."""

    certificate: Certificate | None = None

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._header = ""
        self._stale_at = -1.0

    async def authorization(self) -> str:
        """Return the header, from the file if a minute has passed since it was read."""
        if not self._header or self._clock.now() >= self._stale_at:
            self._read()
        return self._header

    async def renew(self, rejected: str) -> bool:
        """Read the file now."""
        self._read()
        return self._header != rejected

    def _read(self) -> None:
        try:
            token = self._path.read_text("utf-8").strip()
        except OSError as error:
            if self._header:  # a file that is being replaced is missing for a moment: the old token still works
                return
            raise KubeconfigError(f"the token cannot be read: {error.strerror}", subject=str(self._path)) from error
        self._header = f"Bearer {token}"
        self._stale_at = self._clock.now() + TOKEN_FILE_SECONDS


class _Renewed:
    """What plugins and providers share: one renewal at a time, ahead of the end of the token's life."""

    def __init__(self, clock: Clock) -> None:
        self.certificate: Certificate | None = None
        self._clock = clock
        self._header: str | None = None
        self._expires = float("inf")
        self._lock = asyncio.Lock()

    async def authorization(self) -> str:
        """Return the header; the first time and when the token is about to run out, get a new one."""
        if self._header is None or self._clock.now() >= self._expires:
            async with self._lock:
                if self._header is None or self._clock.now() >= self._expires:
                    await self._fetch()
        return self._header or ""

    async def renew(self, rejected: str) -> bool:
        """Get new credentials, unless somebody else just did."""
        async with self._lock:
            if self._header == rejected:
                await self._fetch()
        return True

    async def _fetch(self) -> None:
        raise NotImplementedError


class ExecPlugin(_Renewed):
    """The kubeconfig's `exec`: a program that prints credentials (client.authentication.k8s.io)."""

    def __init__(self, spec: dict[str, Any], clock: Clock) -> None:
        super().__init__(clock)
        self._spec = spec

    async def _fetch(self) -> None:
        status = await self._run()
        token = status.get("token")
        self._header = f"Bearer {token}" if token else ""
        if status.get("clientCertificateData"):
            certificate, key = status["clientCertificateData"], status.get("clientKeyData", "")
            self.certificate = Certificate(certificate.encode(), key.encode())
        elif not token:
            raise self._error("it printed neither a token nor a certificate")
        try:
            self._expires = self._clock.now() + _lifetime(status.get("expirationTimestamp"))
        except (TypeError, ValueError) as error:
            raise self._error(f"its expirationTimestamp is no time: {error}") from error

    async def _run(self) -> dict[str, Any]:
        from kubernetes.aio.config import ConfigException  # noqa: PLC0415  # see the module's docstring
        from kubernetes.aio.config.exec_provider import ExecProvider  # noqa: PLC0415
        from kubernetes.aio.config.kube_config import ConfigNode  # noqa: PLC0415

        try:
            async with asyncio.timeout(PLUGIN_SECONDS):
                status: dict[str, Any] = await ExecProvider(ConfigNode("exec", self._spec)).run()
        except TimeoutError as error:
            raise self._error(f"it did not end within {PLUGIN_SECONDS:.0f} s") from error
        except (ConfigException, OSError) as error:
            raise self._error(str(error)) from error
        return status

    def _error(self, text: str) -> KubeconfigError:
        hint = self._spec.get("installHint") or "Run the program by hand to see what is wrong."
        return KubeconfigError(f"no credentials: {text}", subject=f"exec plugin {self._spec.get('command')}", hint=hint)


class AuthProvider(_Renewed):
    """The kubeconfig's `auth-provider`, oidc or gcp, as the official client knows them."""

    def __init__(self, kubeconfig: dict[str, Any], clock: Clock) -> None:
        super().__init__(clock)
        self._kubeconfig = kubeconfig

    async def _fetch(self) -> None:
        from kubernetes.aio.client import Configuration  # noqa: PLC0415  # see the module's docstring
        from kubernetes.aio.config import ConfigException  # noqa: PLC0415
        from kubernetes.aio.config.kube_config import KubeConfigLoader  # noqa: PLC0415

        configuration = Configuration()
        try:
            await KubeConfigLoader(self._kubeconfig).load_and_set(configuration)
        except (ConfigException, OSError, ValueError) as error:
            raise KubeconfigError(f"no credentials: {error}", subject="auth-provider") from error
        self._header = configuration.api_key.get("BearerToken", "")


def _lifetime(expires: str | None) -> float:
    """Return for how many seconds from now a token is to be used, so that it is renewed before it runs out."""
    if not expires:
        return float("inf")
    return (datetime.fromisoformat(expires) - datetime.now(UTC)).total_seconds() - EARLY_SECONDS
