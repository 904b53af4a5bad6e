"""Whether clusters that name the same alias can ever be switched between: their clients find the same TLS and ports.

`chronik switch` refuses it otherwise, on the day on which it is needed. It shows before where documents are seen
together. Documents may be edited one after the other, so this is a warning and no error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.api.components import client_service_name
from chronik.manifest import ObjectRef
from chronik.plan.aliases.services import ports_of
from chronik.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest

    Rendered = tuple[Cluster, Sequence[Manifest]]

_OF_CLIENTS = ("tlsEnabled", "tlsSecret", "mtlsEnabled")
"""What of `spec.security` the clients of a cluster have to know."""
_HINT = "`chronik switch` refuses to move an alias between them until clients find the same at both."


def other_security(one: Cluster, other: Cluster) -> list[str]:
    """Return which fields of `spec.security` the clients of one cluster find otherwise at another."""
    ours, theirs = _security(one), _security(other)
    return [field for field in _OF_CLIENTS if ours.get(field) != theirs.get(field)]


def hindered(clusters: Sequence[Rendered], known: Sequence[Cluster] = ()) -> Iterator[tuple[Cluster, Problem]]:
    """Yield what forbids to switch aliases between clusters, once for each two that name one, at the later of the two.

    `known` are clusters that were there before these, of which no objects are at hand.
    """
    before: list[tuple[Cluster, Sequence[Manifest] | None]] = [(each, None) for each in known]
    for cluster, manifests in clusters:
        for other, theirs in before:
            shared = [name for name in cluster.spec["network"]["aliases"] if name in other.spec["network"]["aliases"]]
            if shared and other.namespace == cluster.namespace:
                yield from ((cluster, each) for each in _problems(cluster, other, shared[0]))
                if theirs is not None:
                    yield from ((cluster, each) for each in _ports((cluster, manifests), (other, theirs), shared[0]))
        before.append((cluster, manifests))


def _problems(cluster: Cluster, other: Cluster, alias: str) -> Iterator[Problem]:
    ours, theirs = _security(cluster), _security(other)
    for field in other_security(cluster, other):
        message = (
            f"clients that come by the alias {alias} find {field} {_text(ours.get(field))} here,"
            f" and {_text(theirs.get(field))} at {other.key}"
        )
        yield Problem("warning", "alias-tls", ("spec", "security", field), message, _HINT)


def _ports(one: Rendered, other: Rendered, alias: str) -> Iterator[Problem]:
    ours, theirs = (_client_ports(*each) for each in (one, other))
    if ours is None or theirs is None or ours == theirs:
        return
    at = one[0].spec["network"]["aliases"].index(alias)
    message = (
        f"clients that come by the alias {alias} find other ports here than at {other[0].key}:"
        f" {_numbers(ours)} and {_numbers(theirs)}"
    )
    hint = f"{_HINT} Ports come from spec.patches or templates."
    yield Problem("warning", "alias-ports", ("spec", "network", "aliases", at), message, hint)


def _client_ports(cluster: Cluster, manifests: Iterable[Manifest]) -> list[dict[str, Any]] | None:
    """Return the ports of the Service of a cluster's clients; None if templates make none."""
    ref = ObjectRef("Service", cluster.namespace, client_service_name(cluster))
    return next((ports_of(each) for each in manifests if ObjectRef.of(each) == ref), None)


def _numbers(ports: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(f"{each.get('name', '')} {each.get('port')} (to {each.get('targetPort')})" for each in ports)


def _security(cluster: Cluster) -> dict[str, Any]:
    return dict(cluster.spec["security"])


def _text(value: Any) -> str:
    return {None: "absent", True: "true", False: "false"}.get(value, str(value))
