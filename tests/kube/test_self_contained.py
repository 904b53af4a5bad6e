"""Kubeconfigs that came from elsewhere: nothing of them is run, and no file that they name is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chronik.errors import KubeconfigError
from chronik.kube import ConnectOptions
from chronik.kube.kubeconfig import handed_access

NAME = "Secret hub/east"
HOSTILE: dict[str, tuple[str, dict[str, Any]]] = {
    "exec": ("user", {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/touch"}}),
    "auth-provider": ("user", {"auth-provider": {"name": "oidc", "config": {"idp-issuer-url": "x"}}}),
    "tokenFile": ("user", {"tokenFile": "/etc/hostname"}),
    "client-certificate": ("user", {"client-certificate": "/etc/hostname"}),
    "client-key": ("user", {"client-key": "/etc/hostname"}),
    "certificate-authority": ("cluster", {"certificate-authority": "/etc/hostname"}),
}


def content(kind: str = "", more: dict[str, Any] | None = None, *, chosen: bool = True) -> bytes:
    """Return a kubeconfig; what is `more` is said of its user or cluster, or of one beside it."""
    entries = {"user": {"token": "s3cret"}, "cluster": {"server": "https://east.example.com"}}
    lists = {
        name: [{"name": "m", name: value | ((more or {}) if name == kind and chosen else {})}]
        for name, value in entries.items()
    }
    if kind and not chosen:
        lists[kind].append({"name": "other", kind: entries[kind] | (more or {})})
    return json.dumps(
        {
            "current-context": "m",
            "contexts": [{"name": "m", "context": {"cluster": "m", "user": "m"}}],
            "users": lists["user"],
            "clusters": lists["cluster"],
        }
    ).encode()


@pytest.mark.parametrize("chosen", [True, False], ids=["in use", "beside"])
@pytest.mark.parametrize("name", HOSTILE)
def test_what_names_a_file_or_a_program_is_refused(name, chosen):
    """Each such field is refused by name, in the context that is used and in any other."""
    kind, more = HOSTILE[name]

    with pytest.raises(KubeconfigError, match=name) as caught:
        handed_access(content(kind, more, chosen=chosen), NAME, ConnectOptions())
    assert NAME in caught.value.subject
    assert "s3cret" not in str(caught.value)


async def test_one_that_has_all_in_itself_is_taken():
    """Server and token are those of the kubeconfig, and errors name the Secret."""
    access = handed_access(content(), NAME, ConnectOptions())

    assert access.server == "https://east.example.com"
    assert await access.credentials.authorization() == "Bearer s3cret"
    assert NAME in access.origin
