"""Who may do what in the stand-in: roles and bindings evaluated as kube-apiserver does, without escalation checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support.api import ADMIN, USERS
from support.api_errors import Named, forbidden, unauthorized

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.fake_server.store import Store

ANONYMOUS = "system:anonymous"
_GROUP = "rbac.authorization.k8s.io"
Object = dict[str, Any]


@dataclass(frozen=True)
class Attempt:
    """What somebody wants to do."""

    verb: str
    resource: Named
    namespace: str = ""
    subresource: str = ""


def user_of(authorization: str | None) -> str:
    """Return who a request is from; raise for a token that nobody has."""
    if not authorization:
        return ANONYMOUS
    token = authorization.removeprefix("Bearer ")
    if token not in {ADMIN, *USERS}:
        raise unauthorized()
    return token


def check(store: Store, user: str, attempt: Attempt) -> None:
    """Raise the server's 403 unless some role allows the attempt."""
    if allowed(store, user, attempt):
        return
    resource = f"{attempt.resource.kind}/{attempt.subresource}" if attempt.subresource else attempt.resource.kind
    where = f'in the namespace "{attempt.namespace}"' if attempt.namespace else "at the cluster scope"
    group = f'in API group "{attempt.resource.group}"'
    raise forbidden(attempt.resource, f'User "{user}" cannot {attempt.verb} resource "{resource}" {group} {where}')


def allowed(store: Store, user: str, attempt: Attempt) -> bool:
    """Tell whether a user may do something."""
    return user == ADMIN or any(_covers(rule, attempt) for rule in _rules(store, user, attempt.namespace))


def _rules(store: Store, user: str, namespace: str) -> Iterator[Object]:
    bindings = store.of(store.kinds[_GROUP, "clusterrolebindings"])
    if namespace:
        bindings = bindings + store.of(store.kinds[_GROUP, "rolebindings"], namespace)
    for binding in bindings:
        if any(subject["kind"] == "User" and subject["name"] == user for subject in binding.get("subjects", ())):
            role = binding["roleRef"]
            plural, place = ("clusterroles", "") if role["kind"] == "ClusterRole" else ("roles", namespace)
            found = store.get(store.kinds[_GROUP, plural], place, role["name"])
            yield from (found or {}).get("rules") or ()


def _covers(rule: Object, attempt: Attempt) -> bool:
    resource = attempt.resource.kind + (f"/{attempt.subresource}" if attempt.subresource else "")
    names = rule.get("resourceNames", ())
    return (
        not {attempt.verb, "*"}.isdisjoint(rule["verbs"])
        and not {attempt.resource.group, "*"}.isdisjoint(rule.get("apiGroups", ()))
        and not {resource, "*", f"*/{attempt.subresource}"}.isdisjoint(rule.get("resources", ()))
        and (not names or attempt.resource.name in names)
    )
