"""Ports of others that leave no room for ours: the same name under another number.

Ports are told apart by number and protocol, and their names must differ. Whoever edits the number of one of our ports
has made a port of their own that bears our name, and the server refuses ours beside it. So theirs has to go first, with
a merge patch: an apply takes away nothing but what its own manager has put there. `plan` asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.plan.managed_fields import FieldPath, item_field
from chronik.plan.owners import owners_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronik.errors import FieldOwner
    from chronik.manifest import Manifest

_CONTAINERS: FieldPath = ("f:spec", "f:template", "f:spec", "f:containers")


def clashes(desired: Manifest, live: Manifest) -> tuple[tuple[FieldOwner, ...], Manifest]:
    """Return who owns the ports in the way of ours, and the merge patch that replaces them, if there are any."""
    if desired["kind"] == "Service":
        wanted, there = desired["spec"].get("ports") or (), live["spec"].get("ports") or ()
        found = _in_the_way(wanted, there, "port")
        patch = {"spec": {"ports": _replaced(wanted, there, found, "port")}}
        return _owners(live, ("f:spec", "f:ports"), found, "port"), patch if found else {}
    if "template" in desired.get("spec", {}):
        return _in_containers(desired, live)
    return (), {}


def _in_containers(desired: Manifest, live: Manifest) -> tuple[tuple[FieldOwner, ...], Manifest]:
    wanted = {each["name"]: each for each in _containers(desired)}
    owners: list[FieldOwner] = []
    kept = []
    for container in _containers(live):
        ports = container.get("ports") or ()
        ours = wanted.get(container["name"], {}).get("ports") or ()
        found = _in_the_way(ours, ports, "containerPort")
        path = (*_CONTAINERS, item_field(container["name"], ("name",)), "f:ports")
        owners += _owners(live, path, found, "containerPort")
        kept.append(container | {"ports": _replaced(ours, ports, found, "containerPort")} if found else container)
    if kept == list(_containers(live)):
        return (), {}
    return tuple(owners), {"spec": {"template": {"spec": {"containers": kept}}}}


def _containers(workload: Manifest) -> Sequence[Manifest]:
    found: Sequence[Manifest] = workload["spec"]["template"]["spec"].get("containers") or ()
    return found


def _in_the_way(wanted: Sequence[Manifest], live: Sequence[Manifest], number: str) -> list[Manifest]:
    """Return the live ports that have a name of ours and are none of ours."""
    names, keys = {each.get("name") for each in wanted} - {None}, {_key(each, number) for each in wanted}
    return [each for each in live if each.get("name") in names and _key(each, number) not in keys]


def _replaced(
    wanted: Sequence[Manifest], live: Sequence[Manifest], found: Sequence[Manifest], number: str
) -> list[Manifest]:
    """Return the live ports with ours in place of those in the way: a Service must not be without any."""
    kept = [each for each in live if each not in found]
    keys = {_key(each, number) for each in kept}
    return [*kept, *(each for each in wanted if _key(each, number) not in keys)]


def _key(port: Manifest, number: str) -> tuple[Any, ...]:
    return port.get(number), port.get("protocol", "TCP")


def _owners(live: Manifest, path: FieldPath, ports: Sequence[Manifest], number: str) -> tuple[FieldOwner, ...]:
    keys = (item_field(_key(port, number), (number, "protocol")) for port in ports)
    return tuple(owner for key in keys for owner in owners_of((*path, key), live))
