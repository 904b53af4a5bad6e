"""TLS as kubectl does it: which authority is trusted, which certificate is shown. Needs no HTTP client."""

from __future__ import annotations

import errno
import os
import ssl
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from chronik.errors import KubeconfigError

if TYPE_CHECKING:
    from chronik.kube.credentials import Access, Pem


def make_context(access: Access) -> ssl.SSLContext | None:
    """Return the context for an https server, None for plain http.

    Raises:
        KubeconfigError: a file is missing, or not what it should be.
    """
    if not access.server.startswith("https:"):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # any certificate in the file is trusted, as by kubectl
    if not access.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif access.authority is None:
        context.load_default_certs()
    load_certificates(context, access)
    return context


def load_certificates(context: ssl.SSLContext, access: Access) -> None:
    """Read authority and client certificate, the first time or again after they may have been rotated."""
    plugin = access.credentials.certificate
    pair = (plugin.certificate, plugin.key) if plugin else access.certificate
    field = "certificate-authority"
    try:
        if access.verify and isinstance(access.authority, Path):
            context.load_verify_locations(cafile=access.authority)
        elif access.verify and isinstance(access.authority, bytes):
            context.load_verify_locations(cadata=access.authority.decode("ascii", "ignore"))
        field = "certificate and key of the exec plugin" if plugin else "client-certificate with client-key"
        if pair:
            _load_chain(context, *pair)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise KubeconfigError(f"{field} cannot be used: {system_words(error)}", subject=access.origin) from error


def _load_chain(context: ssl.SSLContext, certificate: Pem, key: Pem) -> None:
    with ExitStack() as stack:
        context.load_cert_chain(_as_file(certificate, stack), _as_file(key, stack), _password)


def _password() -> str:
    """Refuse to unlock a key: OpenSSL would ask a person, in the middle of whatever we write."""
    raise ValueError("the key is encrypted, and nobody is asked for its password")


def _as_file(source: Pem, stack: ExitStack) -> str:
    """Return a path, because Python loads keys from files only; a text is put in one, for the moment, for us alone."""
    if isinstance(source, Path):
        return str(source)
    file = stack.enter_context(tempfile.NamedTemporaryFile(suffix=".pem"))  # noqa: SIM115  # the stack closes it
    file.write(source)
    file.flush()
    return file.name


def system_words(error: Exception) -> str:
    """Return what the operating system or TLS said, without the wrapping; empty if it said nothing."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error)
