from __future__ import annotations

import ast
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronik.api.components import (
    COMPONENTS,
    Component,
    Member,
    autoscaler_ref,
    claim_name_pattern,
    components,
    evictions_allowed,
    members,
    quorum_budget,
    workload_name,
    workload_ref,
)
from chronik.api.spec import Cluster
from chronik.manifest import COMPONENT_NAMES, ObjectRef
from chronik.offline import assets
from chronik.offline import loading as offline

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
amounts = st.integers(0, 20) | st.integers(0, 100).map("{}%".format)
budgets = st.tuples(st.sampled_from(["minAvailable", "maxUnavailable"]), amounts).map(
    lambda pair: budget(**dict([pair]))
)


def budget(minAvailable: int | str | None = None, maxUnavailable: int | str | None = None) -> Any:  # noqa: N803  # API names
    """Return a budget as the spec has it."""
    return {"minAvailable": minAvailable, "maxUnavailable": maxUnavailable}


def autoscaled(lowest: int, highest: int) -> dict[str, Any]:
    """Return the autoscaling of one component."""
    return {"minReplicas": lowest, "maxReplicas": highest}


def found(**changes: Any) -> dict[str, Component]:
    """Return the components of a cluster by name."""
    spec: Any = {
        "topology": "Roles",
        "controllers": 3,
        "ingestNodes": 4,
        "searchNodes": 2,
        "image": {"controller": "image/c", "ingest": "image/i", "search": "image/s"},
        "resources": None,
        "autoscaling": None,
        "components": None,
        "podDisruptionBudget": None,
        "network": {"external": None},
        **changes,
    }
    return {component.name: component for component in components(Cluster("demo", "ns", spec))}


def test_components():
    """A cluster has controllers, ingest nodes and search nodes, each with its count, image, port and workload."""
    shapes = [
        (each.name, each.type.count_field, each.replicas, each.image, each.workload, each.portName, each.port)
        for each in found().values()
    ]

    assert shapes == [
        ("controller", "controllers", 3, "image/c", "StatefulSet", "grpc", 9090),
        ("ingest", "ingestNodes", 4, "image/i", "StatefulSet", "kafka", 9092),
        ("search", "searchNodes", 2, "image/s", "Deployment", "grpc", 9093),
    ]


def test_nodes():
    """Of topology Unified there is one component, whose pods count from 1, and keep a majority without being asked."""
    made = found(topology="Unified", nodes=5, image={"node": "image/n"}, resources={"node": {"cpu": 1}})
    node = made["node"]

    assert list(made) == ["node"]
    assert (node.replicas, node.image, node.workload, node.first) == (5, "image/n", "StatefulSet", 1)
    assert [(port.name, port.number) for port in node.ports] == [
        ("kafka", 9092),
        ("wal", 9291),
        ("raft", 5001),
        ("api", 6092),
    ]
    assert (node.budget, node.resources, node.autoscaling) == (budget(maxUnavailable=2), {"cpu": 1}, None)
    assert found(topology="Unified", nodes=1, image={"node": "i"})["node"].budget is None


@pytest.mark.parametrize(
    ("external", "address", "node_port"),
    [
        (None, "demo-node-2.ns.svc.cluster.local:9092", None),
        ({"hostTemplate": "n{id}.example.com", "firstNodePort": None}, "n2.example.com:9092", None),
        ({"hostTemplate": "n{id}.example.com", "firstNodePort": 31001}, "n2.example.com:31002", 31002),
    ],
)
def test_members(external, address, node_port):
    """Each node has a number, a name in DNS for the others, and an address that clients are told."""
    spec: Any = {"topology": "Unified", "nodes": 3, "image": {"node": "i"}, "resources": None, "autoscaling": None}
    spec["components"] = None
    spec |= {"podDisruptionBudget": None, "network": {"external": external}}
    found_members = members(Cluster("demo", "ns", spec))

    assert [each.id for each in found_members] == [1, 2, 3]
    assert found_members[1] == Member(
        2,
        "demo-node-2",
        "demo-node-2.ns.svc.cluster.local",
        address,
        "http://demo-node-2.ns.svc.cluster.local:6092",
        node_port,
    )


def test_all_components_are_described():
    """Every component is described, in the order in which it is applied, with the least that the schema allows."""
    counts = assets.schema()["$defs"]["spec"]["properties"]

    assert tuple(COMPONENTS) == COMPONENT_NAMES
    assert {each.count_field: each.minimum for each in COMPONENTS.values()} == {
        each.count_field: counts[each.count_field]["minimum"] for each in COMPONENTS.values()
    }


def test_objects_are_found_under_the_names_that_templates_give():
    """The workload, its Service, its autoscaler and its claims bear the names by which they are looked for."""
    [cluster], _ = offline.load_clusters([str(ROOT / "examples" / "production.yaml")])
    made = {ObjectRef.of(manifest): manifest for manifest in offline.render_clusters([cluster])}

    for component in components(cluster):
        ref = workload_ref(cluster.key, component.name)
        templates = made[ref]["spec"].get("volumeClaimTemplates", [])
        assert ObjectRef("Service", cluster.namespace, ref.name) in made
        assert (autoscaler_ref(cluster.key, component.name) in made) == (component.autoscaling is not None)
        assert bool(templates) == component.type.stateful
        for template in templates:
            assert claim_name_pattern(ref.name).fullmatch(f"{template['metadata']['name']}-{ref.name}-0")
    assert any(component.autoscaling for component in components(cluster))


@pytest.mark.parametrize(
    ("template", "claim", "ordinal"),
    [
        ("", "data-c.d-ingest-12", "12"),
        ("", "write-ahead-log-c.d-ingest-0", "0"),
        ("data", "data-c.d-ingest-3", "3"),
        ("data", "log-c.d-ingest-3", None),
        ("d.ta", "data-c.d-ingest-3", None),
        ("", "data-cxd-ingest-0", None),
        ("", "c.d-ingest-0", None),
        ("", "data-c.d-ingest-0-copy", None),
    ],
)
def test_claims_are_found_by_name(template, claim, ordinal):
    """The claims of a StatefulSet are told by name, all or those of one claim template, and no name is a pattern."""
    found = claim_name_pattern(workload_name("c.d", "ingest"), template).fullmatch(claim)

    assert (found and found[1]) == ordinal


FACTS = {fact for each in COMPONENTS.values() for fact in (each.name, each.count_field, each.title, each.plural)}
FACTS -= {"controller", "node", "nodes"}  # which are also Kubernetes' words, for owners and machines
SPELT = re.compile(
    rf"(^|[^\w-])({'|'.join(map(re.escape, FACTS))})([^\w-]|$)|-({'|'.join(set(COMPONENT_NAMES) - {'node'})})(?![\w-])"
)
OF_A_CLUSTER = re.compile(r"cluster|component|key|part|owner|each")
MAY_SPELL = {
    "api/components.py",
    "manifest.py",  # the names, by which objects are sorted
    "api/crd.py",  # the columns of `kubectl get`, which has its own headings
    "api/reference.py",  # the example at the head of a page
    "rollout/history.py",  # the field managers of Argo CD and Flux, which are called controllers
}
SOURCES = [path for path in (ROOT / "chronik").rglob("*.py") if "_data" not in path.parts]


def spelt(tree: ast.AST) -> Iterator[str]:
    """Yield the texts in which code, not its docstrings, spells a fact about a component or a workload's name."""
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            if SPELT.search(node.value):
                yield node.value
        elif isinstance(node, ast.JoinedStr):
            for left, hyphen, right in zip(node.values, node.values[1:], node.values[2:], strict=False):
                joined = isinstance(hyphen, ast.Constant) and hyphen.value == "-"
                if joined and OF_A_CLUSTER.search(ast.unparse(left)) and OF_A_CLUSTER.search(ast.unparse(right)):
                    yield ast.unparse(node)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_facts_about_components_stand_in_one_place(path):
    """No other module spells what a component is called or counted by, or how its workload is named."""
    found = list(spelt(ast.parse(path.read_text("utf-8"))))

    assert found == [] or str(path.relative_to(ROOT / "chronik")) in MAY_SPELL


def test_no_search_nodes():
    """A cluster without search nodes has two components."""
    assert list(found(searchNodes=0)) == ["controller", "ingest"]


def test_what_a_component_is_given():
    """Resources and autoscaling are the component's own; a part of the spec that is left out is None."""
    some = {"cpu": 1}
    with_both = found(
        resources={"controller": some, "ingest": None, "search": None},
        autoscaling={"controllers": None, "ingestNodes": autoscaled(2, 9), "searchNodes": None},
    )

    assert [each.resources for each in with_both.values()] == [some, None, None]
    assert [each.autoscaling for each in with_both.values()] == [None, autoscaled(2, 9), None]
    assert [each.replicas for each in with_both.values()] == [3, 4, 2]
    assert [each.autoscaling or each.resources or each.budget for each in found().values()] == [None] * 3


@pytest.mark.parametrize(
    ("controllers", "away"), [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2), (7, 3), (8, 3), (9, 4), (99, 49)]
)
def test_quorum_budget(controllers, away):
    """As many controllers may be away as leave a majority; a single one may be moved, for no drain would ever end."""
    assert quorum_budget(controllers) == away


@pytest.mark.parametrize("controllers", range(3, 100))
def test_quorum_budget_leaves_a_majority(controllers):
    """From three controllers on, what is left is more than half, and one more away would not be."""
    left = controllers - quorum_budget(controllers)

    assert left > controllers / 2
    assert left - 1 <= controllers / 2


@pytest.mark.parametrize(
    ("given_budget", "replicas", "allowed"),
    [
        (budget(minAvailable=2), 3, 1),
        (budget(minAvailable=3), 3, 0),
        (budget(minAvailable=5), 3, 0),
        (budget(minAvailable=0), 3, 3),
        (budget(minAvailable="50%"), 3, 1),
        (budget(minAvailable="50%"), 4, 2),
        (budget(minAvailable="0%"), 4, 4),
        (budget(minAvailable="100%"), 4, 0),
        (budget(minAvailable="34%"), 3, 1),
        (budget(maxUnavailable=1), 3, 1),
        (budget(maxUnavailable=0), 3, 0),
        (budget(maxUnavailable=9), 3, 3),
        (budget(maxUnavailable="20%"), 6, 2),
        (budget(maxUnavailable="20%"), 5, 1),
        (budget(maxUnavailable="1%"), 1, 1),
        (budget(maxUnavailable="0%"), 5, 0),
        (budget(maxUnavailable="100%"), 5, 5),
    ],
)
def test_evictions_allowed(given_budget, replicas, allowed):
    """A budget lets go what the disruption controller would: percentages round up, of pods that stay and that go."""
    assert evictions_allowed(given_budget, replicas) == allowed


@given(budgets, st.integers(1, 1000))
def test_evictions_are_pods(given_budget, replicas):
    """However odd the budget, between none and all of the pods may go."""
    assert 0 <= evictions_allowed(given_budget, replicas) <= replicas


def test_percentages_are_exact():
    """Rounding up a percentage never adds a pod to a whole number of pods."""
    for replicas in range(1, 1001):
        for percent in range(101):
            exact = math.ceil(round(percent * replicas / 100, 6))
            assert evictions_allowed(budget(maxUnavailable=f"{percent}%"), replicas) == exact


@pytest.mark.parametrize(
    ("controllers", "asked", "given_budget"),
    [
        (3, budget(maxUnavailable=1), budget(maxUnavailable=1)),
        (3, budget(maxUnavailable="20%"), budget(maxUnavailable="20%")),
        (3, budget(maxUnavailable=2), budget(maxUnavailable=1)),
        (3, budget(maxUnavailable="50%"), budget(maxUnavailable=1)),
        (3, budget(minAvailable=1), budget(maxUnavailable=1)),
        (3, budget(minAvailable=2), budget(minAvailable=2)),
        (3, budget(minAvailable="50%"), budget(minAvailable="50%")),
        (5, budget(maxUnavailable="60%"), budget(maxUnavailable=2)),
        (5, budget(minAvailable=2), budget(maxUnavailable=2)),
        (2, budget(maxUnavailable=2), budget(maxUnavailable=1)),
        (1, budget(maxUnavailable=1), budget(maxUnavailable=1)),
        (1, budget(minAvailable=1), budget(minAvailable=1)),
    ],
)
def test_controllers_keep_their_quorum(controllers, asked, given_budget):
    """The spec's budget holds for controllers unless it would cost their quorum; for the others it always holds."""
    made = found(controllers=controllers, podDisruptionBudget=asked)

    assert {name: each.budget for name, each in made.items()} == {
        "controller": given_budget,
        "ingest": asked,
        "search": asked,
    }


@given(budgets, st.integers(1, 9), st.integers(0, 9))
def test_autoscaled_controllers_keep_their_quorum(asked, lowest, more):
    """A budget for controllers is safe for every number of them that autoscaling may bring about."""
    scaling = {"controllers": autoscaled(lowest, lowest + more), "ingestNodes": None, "searchNodes": None}
    given_budget = found(autoscaling=scaling, podDisruptionBudget=asked)["controller"].budget

    assert given_budget is not None
    for count in range(lowest, lowest + more + 1):
        assert evictions_allowed(given_budget, count) <= quorum_budget(count)
    if all(evictions_allowed(asked, count) <= quorum_budget(count) for count in range(lowest, lowest + more + 1)):
        assert given_budget == asked
