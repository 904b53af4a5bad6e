"""Who we are to the API server: fixed tokens, token files that are rotated, exec plugins, old auth providers.

A client asks before every request, and has credentials renewed after a 401. Plugins are run as kubectl runs them: the
official client does not tell them about the cluster, and does not end one that hangs. It still reads `auth-provider`
sections, and is imported only for them: it takes a quarter of a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from chronik.errors import KubeconfigError
from chronik.kube.checks.shapes import ShapeError, base64_data, fields, flag, one_of, text

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
    """A token in a file that another process rotates, as the kubelet does with a service account's.

    `fallback` is the token to use as long as the file cannot be read; `origin` says what names the file.
    """

    certificate: Certificate | None = None

    def __init__(self, path: Path, clock: Clock, fallback: str = "", origin: str = "") -> None:
        self._path = path
        self._clock = clock
        self._origin = origin
        self._fallback = fallback
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
            token = self._path.read_bytes().decode("utf-8").strip()
            if not token:
                raise self._error("the file is empty")
            self._header = bearer(token, str(self._path))
        except (OSError, ValueError, KubeconfigError) as error:
            if not self._header and self._fallback:
                self._header = bearer(self._fallback, self._origin)
            if self._header:  # a file that is being replaced is missing for a moment: the old token still works
                return
            if isinstance(error, KubeconfigError):
                raise
            raise self._error(reason_of(error)) from error
        self._stale_at = self._clock.now() + TOKEN_FILE_SECONDS

    def _error(self, reason: str) -> KubeconfigError:
        hint = f"It is the tokenFile of {self._origin}." if self._origin else ""
        return KubeconfigError(f"the token cannot be read: {reason}", subject=str(self._path), hint=hint)


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
        """Get new credentials, unless another request just did."""
        async with self._lock:
            if self._header == rejected:
                await self._fetch()
        return True

    async def _fetch(self) -> None:
        raise NotImplementedError


class ExecPlugin(_Renewed):
    """The kubeconfig's `exec`: a program that prints credentials (client.authentication.k8s.io).

    `spec` is that section, checked; `cluster` is what the program is told about the cluster, if it wants to know.
    Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
    """

    def __init__(self, spec: dict[str, Any], clock: Clock, cluster: dict[str, Any] | None = None) -> None:
        super().__init__(clock)
        self._spec = spec
        self._cluster = cluster

    async def _fetch(self) -> None:
        status = self._status(await self._run())
        token, certificate, key = (status.get(name, "") for name in ("token", *_PAIR))
        if bool(certificate) != bool(key):
            raise self._error("it printed only one of clientCertificateData and clientKeyData")
        if not token and not certificate:
            raise self._error("it printed neither a token nor a certificate")
        try:
            expires = self._clock.now() + _lifetime(status.get("expirationTimestamp"))
        except (ValueError, OverflowError) as error:
            raise self._error(f"its expirationTimestamp is no time: {error}") from error
        self._header = bearer(token, self._subject) if token else ""
        self.certificate = Certificate(certificate.encode(), key.encode()) if certificate else None
        self._expires = expires

    async def _run(self) -> bytes:
        """Run the program, and return what it printed; what it says on stderr is shown live if that is a terminal."""
        interactive = self._interactive()
        try:
            process = await asyncio.create_subprocess_exec(
                self._program(),
                *self._spec.get("args", ()),
                env=self._environment(interactive),
                stdin=None if interactive else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=None if _is_terminal(sys.stderr) else asyncio.subprocess.PIPE,
            )
        except (OSError, ValueError) as error:
            raise self._error(f"it cannot be started: {reason_of(error)}") from error
        try:
            async with asyncio.timeout(PLUGIN_SECONDS):
                printed, said = await process.communicate()
        except TimeoutError as error:
            raise self._error(f"it did not end within {PLUGIN_SECONDS:.0f} s") from error
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode:
            words = (said or b"").decode("utf-8", "replace").strip()
            raise self._error(f"it ended with exit code {process.returncode}{f': {words}' if words else ''}")
        return printed

    def _interactive(self) -> bool:
        """Tell whether the program may use our standard input."""
        mode, terminal = self._spec.get("interactiveMode"), _is_terminal(sys.stdin)
        if mode == "Always" and not terminal:
            raise self._error("it needs a terminal to ask a person (interactiveMode: Always), and there is none")
        return terminal and mode != "Never"

    def _program(self) -> str:
        """Return the program's path: a bare name is looked up in our own PATH, but never in the current folder."""
        command: str = self._spec["command"]
        found = shutil.which(command)
        if found is None or not Path(found).is_absolute():
            there = "/" in command and Path(command).exists()
            raise self._error("it is no program that may be run" if there else "there is no such program")
        return found

    def _environment(self, interactive: bool) -> dict[str, str]:  # noqa: FBT001  # a field of what it is told
        added = {each["name"]: each.get("value", "") for each in self._spec.get("env", ())}
        about = {"interactive": interactive} | ({"cluster": self._cluster} if self._cluster is not None else {})
        info = {"kind": "ExecCredential", "apiVersion": self._spec["apiVersion"], "spec": about}
        return {**os.environ, **added, "KUBERNETES_EXEC_INFO": json.dumps(info)}

    def _status(self, printed: bytes) -> dict[str, Any]:
        from chronik.documents.yaml_data import UnreadableError, read_data  # noqa: PLC0415  # most have no plugin

        if not printed.strip():
            raise self._error("it printed nothing")
        try:
            credential = _EXEC_CREDENTIAL(read_data(printed))
        except (ShapeError, UnreadableError) as error:
            raise self._error(f"it printed no ExecCredential: {error}") from error
        if credential["apiVersion"] != self._spec["apiVersion"]:
            wanted = self._spec["apiVersion"]
            raise self._error(f"it answered in version {credential['apiVersion']!r}, and was asked in {wanted}")
        status: dict[str, Any] = credential["status"]
        return status

    @property
    def _subject(self) -> str:
        return f"exec plugin {self._spec['command']}"

    def _error(self, problem: str) -> KubeconfigError:
        hint = self._spec.get("installHint") or "Run the program by hand to see what is wrong."
        return KubeconfigError(f"no credentials: {problem}", subject=self._subject, hint=hint)


_PAIR = ("clientCertificateData", "clientKeyData")
_EXEC_CREDENTIAL = fields(
    {
        "apiVersion": text,
        "kind": one_of("ExecCredential"),
        "spec": fields({"interactive": flag, "cluster": fields({"certificate-authority-data": base64_data})}),
        "status": fields({"expirationTimestamp": text, "token": text, **dict.fromkeys(_PAIR, text)}),
    },
    required=("apiVersion", "kind", "status"),
)


class AuthProvider(_Renewed):
    """The kubeconfig's `auth-provider` for OpenID Connect, as the official client knows it."""

    def __init__(self, kubeconfig: dict[str, Any], clock: Clock, subject: str = "auth-provider") -> None:
        super().__init__(clock)
        self._kubeconfig = kubeconfig
        self._subject = subject

    async def _fetch(self) -> None:
        from kubernetes.aio.client import Configuration  # noqa: PLC0415  # see the module's docstring
        from kubernetes.aio.config.kube_config import KubeConfigLoader  # noqa: PLC0415

        configuration = Configuration()
        try:
            await KubeConfigLoader(self._kubeconfig).load_and_set(configuration)
            header = str(configuration.api_key["BearerToken"])
        except Exception as error:  # it takes tokens apart, and raises whatever it trips over
            reason = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else str(error)
            raise KubeconfigError(f"no credentials: {reason}", subject=self._subject) from error
        self._header = bearer(header.removeprefix("Bearer "), self._subject)


def bearer(token: str, subject: str) -> str:
    """Return the header for a token.

    Raises:
        KubeconfigError: the token has characters that no header can carry.
    """
    return f"Bearer {header_value(token, subject, 'the token')}"


def header_value(value: str, subject: str, name: str) -> str:
    """Return a value if a header can carry it.

    Raises:
        KubeconfigError: it has a line break, or another control character.
    """
    if _UNFIT.search(value):
        raise KubeconfigError(f"{name} has a line break or another control character in it", subject=subject)
    return value


_UNFIT = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


def reason_of(error: Exception) -> str:
    """Return why a file or program cannot be had, in the operating system's words."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return getattr(error, "strerror", None) or str(error)


def _is_terminal(stream: Any) -> bool:
    """Tell whether a standard stream is a terminal; it may be missing or closed."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def _lifetime(expires: str | None) -> float:
    """Return for how many seconds from now a token is to be used, so that it is renewed before it runs out."""
    if expires is None:
        return float("inf")
    ends = datetime.fromisoformat(expires)
    if ends.tzinfo is None:
        raise ValueError(f"{expires!r} has no time zone")
    return (ends - datetime.now(UTC)).total_seconds() - EARLY_SECONDS
