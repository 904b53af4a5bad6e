"""A user with certain rights in a namespace, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.api import USERS

from chronik.kube import ConnectOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.operators import Namespace

    from chronik.manifest import Manifest

USER = USERS[0]


def granted(place: Namespace, name: str, *rules: Manifest) -> ConnectOptions:
    """Give the user rights in the namespace, and return how to connect as that user."""
    base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{place.name}"
    group = "rbac.authorization.k8s.io"
    subjects = [{"kind": "User", "name": USER, "apiGroup": group}]
    reference = {"kind": "Role", "name": name, "apiGroup": group}
    for plural, body in (
        ("roles", {"rules": list(rules)}),
        ("rolebindings", {"subjects": subjects, "roleRef": reference}),
    ):
        answer = place.server.call("POST", f"{base}/{plural}", {"metadata": {"name": name}, **body})
        assert answer.code == 201, answer.body
    return ConnectOptions(kubeconfig=str(place.server.kubeconfig), context=USER)


def rule(verbs: Sequence[str], resources: Sequence[str] = ("*",), groups: Sequence[str] = ("*",)) -> Manifest:
    """Return a rule of a Role."""
    return {"apiGroups": list(groups), "resources": list(resources), "verbs": list(verbs)}
