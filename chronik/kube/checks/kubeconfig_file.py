"""The shape of a kubeconfig file: which fields there are, and of which type each is.

As strict as client-go's api/v1/types.go, whose decoder refuses a file in which anything has another type. Fields that
are not listed are ignored, as there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.errors import KubeconfigError
from chronik.kube.checks.shapes import (
    ShapeError,
    anything,
    base64_data,
    fields,
    flag,
    list_of,
    map_of,
    named,
    one_of,
    text,
)

if TYPE_CHECKING:
    from pathlib import Path

_EXTENSIONS = named(fields({"name": text, "extension": anything}))
_CLUSTER = fields(
    {
        "server": text,
        "tls-server-name": text,
        "insecure-skip-tls-verify": flag,
        "certificate-authority": text,
        "certificate-authority-data": base64_data,
        "proxy-url": text,
        "disable-compression": flag,
        "extensions": _EXTENSIONS,
    }
)
_EXEC = fields(
    {
        "command": text,
        "args": list_of(text),
        "env": list_of(fields({"name": text, "value": text})),
        "apiVersion": text,
        "installHint": text,
        "provideClusterInfo": flag,
        "interactiveMode": text,
    }
)
_USER = fields(
    {
        "client-certificate": text,
        "client-certificate-data": base64_data,
        "client-key": text,
        "client-key-data": base64_data,
        "token": text,
        "tokenFile": text,
        "as": text,
        "as-uid": text,
        "as-groups": list_of(text),
        "as-user-extra": map_of(list_of(text)),
        "username": text,
        "password": text,
        "auth-provider": fields({"name": text, "config": map_of(text)}),
        "exec": _EXEC,
        "extensions": _EXTENSIONS,
    }
)
_CONTEXT = fields({"cluster": text, "user": text, "namespace": text, "extensions": _EXTENSIONS})
_KUBECONFIG = fields(
    {
        "kind": one_of("Config", ""),
        "apiVersion": one_of("v1", ""),
        "preferences": fields({"colors": flag, "extensions": _EXTENSIONS}),
        "clusters": named(fields({"name": text, "cluster": _CLUSTER})),
        "users": named(fields({"name": text, "user": _USER})),
        "contexts": named(fields({"name": text, "context": _CONTEXT})),
        "current-context": text,
        "extensions": _EXTENSIONS,
    }
)
"""The fields of a kubeconfig and their types, those of api/v1/types.go; others are ignored, as by kubectl."""


def parse(path: Path, content: bytes) -> dict[str, Any]:
    """Return what a kubeconfig file says; each field that is there has its type, and base64 is decoded.

    Raises:
        KubeconfigError: it is neither YAML nor JSON, or a field has another type; `path` is what it is named in errors.
    """
    from chronik.documents.yaml_data import UnreadableError, read_data  # noqa: PLC0415  # a pod needs none

    try:
        found: dict[str, Any] = _KUBECONFIG(read_data(content))
    except UnreadableError as error:
        raise KubeconfigError(f"cannot be read: {error}", subject=str(path)) from error
    except ShapeError as error:
        problem = str(error) if error.field else f"is no kubeconfig: {error}"
        raise KubeconfigError(problem, subject=str(path)) from error
    return found
