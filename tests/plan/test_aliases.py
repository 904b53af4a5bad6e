"""What becomes of an alias, and whether it may be switched: the decisions alone, without a server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chronik.manifest import ClusterKey, ObjectRef
from chronik.offline import loading as offline
from chronik.plan.actions import Blocked, Create, Foreign, Prune, Skip, Wait
from chronik.plan.aliases.services import (
    active_of,
    alias_action,
    alias_service,
    is_alias,
    named_elsewhere,
    named_in,
    named_on,
    withdrawal,
)
from chronik.plan.aliases.sharing import hindered
from chronik.plan.aliases.switching import Side, copies_of, doubts, next_steps, obstacles, switching_patch
from chronik.plan.ownership import Owner, ownership_of
from chronik.problem import format_path

NAME = "orders-kafka"
REF = ObjectRef("Service", "demo", NAME)


def document(name: str, **spec: Any) -> dict[str, Any]:
    """Return a ChronikCluster of topology Unified that runs, and names the alias."""
    base = {
        "topology": "Unified",
        "nodes": 3,
        "storage": {"backend": "local"},
        "security": {"adminKeySecret": "admin"},
        "network": {"aliases": [NAME]},
    }
    return {
        "apiVersion": "chronik.stream/v1alpha1",
        "kind": "ChronikCluster",
        "metadata": {"name": name, "namespace": "demo", "uid": f"uid-{name}", "generation": 2},
        "spec": base | spec,
        "status": {"phase": "Running", "observedGeneration": 2},
    }


def side(name: str, ready: int = 3, **spec: Any) -> Side:
    """Return a cluster as a switch sees it: what its document makes it."""
    whole = document(name, **spec)
    cluster = offline.validator().validate(whole, stored=True).cluster
    assert cluster is not None
    rendered = offline.render_clusters([replace(cluster, uid=None)])
    client = next(each for each in rendered if each["metadata"]["name"] == f"{name}-node-client")
    return Side(ClusterKey("demo", name), whole, cluster, client, ready)


def source(**fields: Any) -> dict[str, Any]:
    """Return a spec that copies from blue."""
    base = {"name": "blue", "bootstrapServers": ["blue-node-client:9092"], "topics": {"include": ["orders"]}}
    return {"replication": {"sources": [base | fields]}}


def live(client: dict[str, Any]) -> dict[str, Any]:
    """Return an alias as a server has it."""
    made = alias_service(NAME, client)
    made["metadata"] |= {"uid": "1", "resourceVersion": "7"}
    return made


BLUE, GREEN = side("blue"), side("green", **source())
ALIAS = live(BLUE.service or {})


def told(*sides: Side, known: tuple[Side, ...] = ()) -> list[tuple[str, str, str]]:
    """Return what is told of clusters that are seen together: of which, at which field, and what."""
    found = hindered([(each.cluster, [each.service]) for each in sides], [each.cluster for each in known])
    return [(cluster.name, format_path(each.path), each.message) for cluster, each in found]


TLS = {"adminKeySecret": "admin", "tlsEnabled": True, "tlsSecret": "tls"}


def test_clusters_that_cannot_be_switched_between_are_told():
    """Other TLS is told at each field that differs, once for two clusters, at the later; other ports at the alias."""
    secure, other = side("green", security=TLS), side("red", security=TLS | {"tlsSecret": "own"})
    patch = [{"op": "replace", "path": "/spec/ports/0/port", "value": 9093}]
    moved = side("red", patches=[{"target": {"kind": "Service", "name": "red-node-client"}, "patch": patch}])
    said = "clients that come by the alias orders-kafka find"

    assert told(BLUE, side("green")) == []
    assert told(BLUE, secure) == [
        ("green", "spec.security.tlsEnabled", f"{said} tlsEnabled true here, and false at demo/blue"),
        ("green", "spec.security.tlsSecret", f"{said} tlsSecret tls here, and absent at demo/blue"),
    ]
    assert told(secure, other) == [
        ("red", "spec.security.tlsSecret", f"{said} tlsSecret own here, and tls at demo/green")
    ]
    assert told(other, known=(secure,)) == told(secure, other)
    assert told(BLUE, moved) == [
        (
            "red",
            "spec.network.aliases[0]",
            f"{said} other ports here than at demo/blue: kafka 9093 (to kafka) and kafka 9092 (to kafka)",
        )
    ]


def test_clusters_that_share_no_alias_are_nobodys_business():
    """Other aliases, or a cluster of another namespace, have nothing to be switched between."""
    secure = side("green", security=TLS, network={"aliases": ["prices-kafka"]})
    elsewhere = side("green", security=TLS)
    elsewhere = replace(elsewhere, cluster=replace(elsewhere.cluster, namespace="other"))

    assert told(BLUE, secure) == told(BLUE, elsewhere) == told(BLUE) == []


# --- what a cluster does about an alias ------------------------------------------------------------------------------


def test_an_alias_that_is_not_there_is_made():
    """It leads to the pods that clients connect to, on their ports, and is owned by nobody and part of no cluster."""
    action = alias_action(NAME, BLUE.service, None)

    assert isinstance(action, Create)
    assert action.ref == REF
    assert action.manifest["metadata"] == {
        "name": NAME,
        "namespace": "demo",
        "labels": {
            "app.kubernetes.io/name": "chronik-stream",
            "app.kubernetes.io/managed-by": "chronik-operator",
            "chronik.stream/alias": NAME,
        },
    }
    assert action.manifest["spec"] == {
        "type": "ClusterIP",
        "selector": {"app.kubernetes.io/instance": "blue", "app.kubernetes.io/component": "node"},
        "ports": [{"name": "kafka", "port": 9092, "protocol": "TCP", "targetPort": "kafka"}],
    }
    assert is_alias(action.manifest)
    assert active_of(action.manifest) == "blue"


def test_an_alias_that_is_there_is_left_alone():
    """Wherever it leads, and whatever a person has changed beside its ports, nothing is done to it."""
    changed = ALIAS | {"spec": ALIAS["spec"] | {"type": "LoadBalancer", "clusterIP": "10.0.0.1"}}
    changed["spec"]["ports"] = [{**ALIAS["spec"]["ports"][0], "nodePort": 31000}]

    assert alias_action(NAME, GREEN.service, changed) == Skip(ref=REF)


def test_what_is_no_alias_is_never_touched():
    """A Service without the marks, with those of another alias, or on its way out, is told and left alone."""
    foreign = {**ALIAS, "metadata": {**ALIAS["metadata"], "labels": {}}}
    renamed = {**ALIAS, "metadata": {**ALIAS["metadata"], "name": "other"}}
    leaving = {**ALIAS, "metadata": {**ALIAS["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}

    assert isinstance(alias_action(NAME, BLUE.service, foreign), Foreign)
    assert isinstance(alias_action("other", BLUE.service, renamed), Foreign)
    assert isinstance(alias_action(NAME, BLUE.service, leaving), Wait)


def test_other_ports_are_told():
    """An alias on other ports than the cluster's cannot lead there, and the action says so."""
    other = {**ALIAS, "spec": {**ALIAS["spec"], "ports": [{**ALIAS["spec"]["ports"][0], "port": 9999}]}}
    action = alias_action(NAME, BLUE.service, other)

    assert isinstance(action, Blocked)
    assert "has other ports than Service blue-node-client" in action.reason


def test_an_alias_with_the_name_of_a_service_is_not_a_cluster_s():
    """An alias is not taken for a lost object of a cluster whose Service has its name."""
    written = {**ALIAS, "metadata": {**ALIAS["metadata"], "managedFields": [{"manager": "chronik-operator"}]}}

    assert ownership_of(written, "orders", None).owner is Owner.FOREIGN
    assert ownership_of(written, "orders", "uid").owner is Owner.FOREIGN


# --- who names it ----------------------------------------------------------------------------------------------------


def test_it_goes_with_the_last_that_names_it():
    """It stays as long as another cluster names it, and is deleted as the very object that was seen."""
    stays, goes = withdrawal([NAME], {REF: ALIAS}, {NAME}), withdrawal([NAME], {REF: ALIAS}, set())

    assert stays.actions == ()
    (action,) = goes.actions
    assert isinstance(action, Prune)
    assert (action.ref, action.uid, action.resource_version) == (REF, "1", "7")


def test_what_is_no_alias_does_not_go():
    """A Service of that name that was not made as an alias outlives the cluster."""
    foreign = {**ALIAS, "metadata": {**ALIAS["metadata"], "labels": {}}}

    assert withdrawal([NAME], {REF: foreign}, set()).actions == ()


def test_documents_that_are_there_to_stay_name_aliases():
    """Other documents count, those that are being deleted do not, and broken ones break nothing."""
    leaving = document("red")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    broken = document("grey", network={"aliases": "x"})
    broken["spec"] = broken["spec"] | {"network": 3}

    assert named_elsewhere({"blue"}, [BLUE.document, leaving, broken], [], operated=True) == set()
    assert named_elsewhere({"blue"}, [BLUE.document, GREEN.document], [], operated=True) == {NAME}
    assert named_in(document("grey", network={"aliases": "x"})) == []
    assert named_in(document("grey", network={"aliases": [NAME, "../secrets", 3]})) == [NAME]


def test_services_of_clusters_without_an_operator_name_aliases():
    """Their Service says what their document did; where there is a document, that alone counts."""
    bare = {**GREEN.service, "metadata": {**GREEN.service["metadata"]}}
    owner = {"apiVersion": "chronik.stream/v1alpha1", "kind": "ChronikCluster", "name": "green", "controller": True}
    owned = {**bare, "metadata": {**bare["metadata"], "ownerReferences": [owner | {"uid": "u"}]}}

    assert named_on(bare) == [NAME]
    assert named_elsewhere({"blue"}, [], [bare], operated=False) == {NAME}
    assert named_elsewhere({"blue"}, [], [owned], operated=False) == set()


def test_orphaned_objects_keep_their_alias():
    """If an operator's cluster goes and leaves its objects, its own Service still names the alias."""
    assert named_elsewhere({"blue"}, [], [BLUE.service], operated=True) == {NAME}
    assert named_elsewhere({"blue"}, [], [BLUE.service], operated=False) == set()


# --- whether it may be switched --------------------------------------------------------------------------------------


def test_nothing_forbids_a_switch_between_two_that_are_alike():
    """Two clusters that run, name the alias and have the same ports and TLS are no obstacle."""
    assert obstacles(ALIAS, GREEN, BLUE) == []
    assert doubts(GREEN, BLUE) == []


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (side("green", network={"aliases": []}), "green does not name it in network.aliases"),
        (side("green", ready=0), "no pod of green that clients connect to is ready"),
        (replace(GREEN, service=None), "green has no Service for clients yet"),
        (
            side("green", security={"adminKeySecret": "admin", "tlsEnabled": True, "tlsSecret": "t"}),
            "clients of blue find another security.tlsEnabled, security.tlsSecret at green",
        ),
        (
            side("green", **source(bootstrapServers=[f"{NAME}.demo.svc.cluster.local:9092"])),
            f"green would copy from itself: its source blue has {NAME} in bootstrapServers",
        ),
    ],
    ids=["unnamed", "unready", "no-service", "tls", "own-source"],
)
def test_what_forbids_a_switch_is_named(target, said):
    """What would leave clients without a cluster, or in the wrong one, is told."""
    assert said in obstacles(ALIAS, target, BLUE)


@pytest.mark.parametrize(
    ("metadata", "status", "said"),
    [
        ({}, {"phase": "Updating"}, "green is Updating, and not Running"),
        ({}, {"observedGeneration": 1}, "its operator has not seen the newest spec"),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, {}, "green is being deleted"),
    ],
    ids=["phase", "generation", "deleted"],
)
def test_only_a_cluster_that_runs_at_its_generation_is_switched_to(metadata, status, said):
    """Its document has to be what runs."""
    whole = document("green")
    whole = whole | {"metadata": whole["metadata"] | metadata, "status": whole["status"] | status}

    assert any(said in each for each in obstacles(ALIAS, replace(GREEN, document=whole), BLUE))


def test_ports_have_to_be_the_alias_s():
    """A cluster on other ports cannot be switched to."""
    ports = [{**GREEN.service["spec"]["ports"][0], "port": 9999}]
    other = replace(GREEN, service={**GREEN.service, "spec": {**GREEN.service["spec"], "ports": ports}})

    assert obstacles(ALIAS, other, BLUE) == ["it has other ports than Service green-node-client"]


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"name": "blue", "bootstrapServers": ["elsewhere.example.com:9092"]}, True),
        ({"name": "x", "bootstrapServers": ["blue-node-client:9092"]}, True),
        ({"name": "x", "bootstrapServers": ["blue-node-client.demo:9092"]}, True),
        ({"name": "x", "bootstrapServers": ["blue-node-1.blue-node.demo.svc.cluster.local:9092"]}, True),
        ({"name": "x", "bootstrapServers": ["blue-node-client.other.svc:9092"]}, False),
        ({"name": "x", "bootstrapServers": ["blue-2-node-client:9092"]}, False),
        ({"name": "x", "bootstrapServers": ["blue.example.com:9092"]}, False),
    ],
    ids=["name", "service", "namespace", "pod", "other-namespace", "other-cluster", "elsewhere"],
)
def test_the_mirror_between_two_is_found(fields, found):
    """A source is a cluster by its name, or by addresses that are that cluster's Services, and by nothing else."""
    target = side("green", **source(**fields))

    assert bool(copies_of(target, BLUE)) is found
    assert bool(doubts(target, BLUE)) is not found


def test_a_source_has_the_name_that_the_other_calls_itself():
    """With an alias in replication, that is its name."""
    called = side("blue", replication={"alias": "east", "sources": [source(name="z")["replication"]["sources"][0]]})
    target = side("green", **source(name="east", bootstrapServers=["x.example.com:9092"]))

    assert [each["name"] for each in copies_of(target, called)] == ["east"]


def test_without_a_document_nobody_knows():
    """Of a cluster without an operator it is not known what it copies; where no cluster was, nothing is lost."""
    bare = replace(GREEN, document=None, cluster=None)

    assert obstacles(ALIAS, bare, BLUE) == []
    assert doubts(bare, BLUE) == [
        "whether green has what blue has, and its TLS: no operator keeps it, so its document is not here"
    ]
    assert doubts(GREEN, replace(BLUE, document=None, cluster=None)) == [
        "whether blue has the same TLS: no operator keeps it, so its document is not here"
    ]
    assert doubts(GREEN, Side(ClusterKey("demo", ""))) == []


def test_the_patch_changes_the_selector_of_that_very_alias():
    """Whatever else selected pods before goes, so that the alias never leads to both, and the version is bound."""
    odd = {**ALIAS, "spec": {**ALIAS["spec"], "selector": {**ALIAS["spec"]["selector"], "track": "x"}}}

    assert switching_patch(odd, GREEN.service) == {
        "metadata": {"resourceVersion": "7"},
        "spec": {
            "selector": {
                "app.kubernetes.io/instance": "green",
                "app.kubernetes.io/component": "node",
                "track": None,
            }
        },
    }


def test_a_switch_between_topologies_changes_the_component():
    """Pods of topology Roles are told apart from those of Unified by their component, too."""
    ingest = {"app.kubernetes.io/instance": "red", "app.kubernetes.io/component": "ingest"}
    old = {**ALIAS, "spec": {**ALIAS["spec"], "selector": ingest}}

    assert switching_patch(old, GREEN.service)["spec"]["selector"] == {
        "app.kubernetes.io/instance": "green",
        "app.kubernetes.io/component": "node",
    }


def test_what_is_left_to_do_is_said():
    """Old connections, producers, groups, the mirror and the way back are people's, and the commands are whole."""
    steps = next_steps(NAME, GREEN, BLUE)

    assert len(steps) == 6
    assert "new connections alone" in steps[0]
    assert "Let no producer write to blue any more" in steps[1]
    assert steps[2].startswith("Consumers read blue.TOPIC")
    assert steps[3].startswith("Groups go on where their place was last translated")
    assert steps[4].endswith("chronik failover blue green -n demo")
    assert "chronik switch orders-kafka --to blue -n demo" in steps[5]
    assert len(next_steps(NAME, GREEN, Side(ClusterKey("demo", "")))) == 1
    assert [each.partition(" ")[0] for each in next_steps(NAME, GREEN, Side(ClusterKey("demo", "blue")))] == [
        *("Restart", "Consumers", "Groups", "Once")
    ]
