"""`chronik federation status`: what it shows, as a table and as JSON, and what it ends with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from support.cli_place import run

from chronik.manifest import FEDERATION
from chronik.report.federation.status import federation_table

if TYPE_CHECKING:
    from support.api import ApiServer

SPEC = {
    "template": {"spec": {"controllers": 3}},
    "members": [{"name": "east", "kubeconfig": {"secret": "east"}}, {"name": "west", "kubeconfig": {"secret": "west"}}],
}
AT = {"secret": "east", "namespace": "streaming", "cluster": "orders"}
WHY = "Nobody else gets the change: east: it is wrong"
HALTED: dict[str, Any] = {
    "phase": "Halted",
    "ready": "0/2",
    "wave": 0,
    "members": [
        {"name": "east", "phase": "Failed", "revision": "4810a851", "message": "it is wrong", "at": AT},
        {"name": "west", "phase": "Pending", "message": "others come first", "at": AT | {"secret": "west"}},
    ],
    "conditions": [
        {
            "type": "Stalled",
            "status": "True",
            "reason": "RolloutHalted",
            "message": WHY,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ],
}


def applied(server: ApiServer, namespace: str, name: str, status: dict[str, Any] | None) -> None:
    """Make a federation, with what its hub would have written."""
    path = f"/apis/{FEDERATION.api_version}/namespaces/{namespace}/{FEDERATION.plural}/{name}"
    document = {"apiVersion": FEDERATION.api_version, "kind": FEDERATION.name, "metadata": {"name": name}, "spec": SPEC}
    assert server.call("PATCH", path, document, fieldManager="kubectl").code == 201
    if status is not None:
        found = server.call("PATCH", f"{path}/status", {"status": status}, patch="merge")
        assert found.code == 200, found.body


def status(server: ApiServer, namespace: str, *arguments: str) -> Any:
    """Run the command."""
    return run("federation", "status", *arguments, "--kubeconfig", str(server.kubeconfig), "-n", namespace)


def test_a_federation_and_its_members_are_shown(server, namespace):
    """Its state and what stands in the way come first, then a line for each member; a halt ends in 1."""
    applied(server, namespace, "orders", HALTED)
    done = status(server, namespace, "orders")

    assert done.code == 1
    assert done.out.splitlines() == [
        f"{namespace}/orders: Halted, 0/2 ready, wave 0",
        f"  {WHY}",
        "MEMBER  STATE    REVISION  CLUSTER           MESSAGE",
        "east    Failed   4810a851  streaming/orders  it is wrong",
        "west    Pending  -         streaming/orders  others come first",
    ]


COMPLETE: dict[str, Any] = {
    "phase": "Complete",
    "ready": "2/2",
    "members": [
        {
            "name": "east",
            "phase": "Ready",
            "revision": "4810a851",
            "version": "1.2.0",
            "readyReplicas": {"controllers": 3, "ingestNodes": 2, "searchNodes": 0},
            "replicas": {"controllers": 3, "ingestNodes": 3, "searchNodes": 0},
            "images": {
                "controllers": ["chronik/controller:1.4.2"],
                "ingestNodes": ["example.com:80/i:1.4.1", "i:1.4.2"],
            },
            "at": AT,
        },
        {"name": "west", "phase": "Ready", "revision": "4810a851", "message": "x" * 40, "at": AT},
    ],
}


TAGS = "1.4.1, 1.4.2"


@pytest.mark.parametrize(
    ("width", "columns", "east"),
    [
        (None, "PODS OPERATOR IMAGES CLUSTER", ("3/3 controllers, 2/3 ingest", "1.2.0", TAGS, "streaming/orders")),
        (120, "PODS OPERATOR IMAGES CLUSTER", ("3/3 controllers, 2/3 ingest", "1.2.0", TAGS, "streaming/orders")),
        (100, "READY OPERATOR IMAGES CLUSTER", ("5/6", "1.2.0", TAGS, "streaming/orders")),
        (90, "READY IMAGES CLUSTER", ("5/6", TAGS, "streaming/orders")),
        (60, "READY", ("5/6",)),
    ],
)  # fmt: skip
def test_versions_and_ready_pods_are_shown_as_there_is_room(width, columns, east):
    """Pods by component, chronik's version and tags of images; on a narrow terminal a number of all pods is left."""
    metadata = {"namespace": "streaming", "name": "orders"}
    drawn = federation_table([{"metadata": metadata, "status": COMPLETE}], width=width, color=False)
    _, head, first, second = (re.split("  +", each) for each in drawn.splitlines())

    assert head == ["MEMBER", "STATE", "REVISION", *columns.split(), "MESSAGE"]
    assert first == ["east", "Ready", "4810a851", *east, "-"]
    assert second[-1].startswith("x" * 20)


def test_programs_get_the_same(server, namespace):
    """With -o json it is one object, with the members as the status has them."""
    applied(server, namespace, "orders", HALTED)
    (found,) = status(server, namespace, "-o", "json").json["federations"]

    assert (found["name"], found["phase"], found["members"]) == ("orders", "Halted", HALTED["members"])


def test_one_that_no_hub_has_seen_is_said_to_be_so(server, namespace):
    """Without a status nothing is wrong yet."""
    applied(server, namespace, "orders", None)
    done = status(server, namespace)

    assert (done.code, done.out) == (0, f"{namespace}/orders: not seen by a hub yet\n")


def test_one_that_is_not_there_is_an_error_that_names_others(server, namespace):
    """A name that there is not ends in 3, with the names that there are; an empty namespace is said to be one."""
    assert status(server, namespace).err == f"no federations in {namespace}\n"
    applied(server, namespace, "orders", None)
    done = status(server, namespace, "order")

    assert done.code == 3
    assert "There are orders." in done.err
