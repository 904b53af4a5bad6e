from __future__ import annotations

import pytest

from chronik.plan.conflicts import port_collisions

KAFKA, METRICS = {"name": "kafka", "port": 9092}, {"name": "metrics", "port": 8080, "protocol": "TCP"}


def service(*ports, owned=None):
    """Return a Service; somebody may own a port of it."""
    fields = {"f:spec": {"f:ports": {f'k:{{"port":{owned},"protocol":"TCP"}}': {".": {}}}}}
    entry = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": fields}
    return {"kind": "Service", "metadata": {"managedFields": [entry] if owned else []}, "spec": {"ports": list(ports)}}


def workload(*containers):
    """Return a workload of containers: a name and numbers of ports, all but the first unnamed."""
    found = [
        {"name": name, "ports": [{"name": "grpc", "containerPort": first}, *({"containerPort": each} for each in rest)]}
        for name, first, *rest in containers
    ]
    return {"kind": "StatefulSet", "metadata": {}, "spec": {"template": {"spec": {"containers": found}}}}


def test_a_port_with_our_name_is_in_the_way():
    """A port of somebody's that has the name of ours is named with its owner, and ours takes its place."""
    theirs, other = {"name": "kafka", "port": 1}, {"name": "debug", "port": 2}
    owners, patch = port_collisions(service(KAFKA, METRICS), service(theirs, METRICS, other, owned=1))

    assert patch == {"spec": {"ports": [METRICS, other, KAFKA]}}
    assert [(each.path, each.manager) for each in owners] == [('.spec.ports[port=1,protocol="TCP"]', "kubectl-edit")]


@pytest.mark.parametrize(
    "ports",
    [(KAFKA, METRICS), (KAFKA,), ({"name": "debug", "port": 1}, KAFKA), (KAFKA | {"name": "x"}, METRICS), ()],
    ids=["same", "fewer", "more", "renamed", "none"],
)
def test_other_ports_are_no_matter(ports):
    """Ports under other names, and ours by their numbers, leave room for ours."""
    assert port_collisions(service(KAFKA, METRICS), service(*ports)) == ((), {})


def test_ports_of_containers():
    """In a workload it is the ports of the same container that count, and the others stay as they are."""
    desired, live = workload(("c", 9090)), workload(("sidecar", 7), ("c", 7, 8))
    _, patch = port_collisions(desired, live)
    sidecar, ours = patch["spec"]["template"]["spec"]["containers"]

    assert sidecar == live["spec"]["template"]["spec"]["containers"][0]
    assert ours["ports"] == [{"containerPort": 8}, {"name": "grpc", "containerPort": 9090}]
    assert port_collisions(desired, workload(("sidecar", 7), ("c", 9090))) == ((), {})


def test_other_kinds_have_no_ports():
    """An object without ports has none in the way."""
    assert port_collisions({"kind": "ConfigMap"}, {"kind": "ConfigMap", "metadata": {}}) == ((), {})
