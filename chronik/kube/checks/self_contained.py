"""What a kubeconfig from a Secret may not say: those who write Secrets must not run programs or read files here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.errors import KubeconfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILES = {
    "cluster": {"certificate-authority": "certificate-authority-data"},
    "user": {
        "client-certificate": "client-certificate-data",
        "client-key": "client-key-data",
        "tokenFile": "token",
    },
}
"""The fields that name a file, and those that hold what is in it."""
_PROGRAMS = ("exec", "auth-provider")


def check_self_contained(document: Mapping[str, Any], name: str) -> None:
    """Refuse a kubeconfig with any cluster or user that names a file, or a program that has to be run.

    `document` has been through `kubeconfig_file.parse`, `name` is what the kubeconfig is called in errors.

    Raises:
        KubeconfigError: it does; nothing was read or run.
    """
    for kind, fields in _FILES.items():
        for entry in document.get(f"{kind}s", ()):
            value = entry.get(kind, {})
            subject = f"{kind} {entry.get('name', '')} in {name}"
            for program in _PROGRAMS if kind == "user" else ():
                if value.get(program) is not None:
                    hint = "Give the user a token, or a client certificate."
                    raise KubeconfigError(f"{program} is not run here, whatever it is", subject=subject, hint=hint)
            for field, data in fields.items():
                if value.get(field):
                    hint = f"Write {data} instead."
                    raise KubeconfigError(f"{field} names a file, and none is read here", subject=subject, hint=hint)
