"""The picture of a cluster: what is gathered of it, and how that reads on terminals of every width, and to programs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from chronik.documents.writer import to_yaml_stream
from chronik.manifest import COMPONENT_LABEL, ClusterKey, Manifest, ObjectRef
from chronik.offline import loading as offline
from chronik.plan.live import LiveCluster
from chronik.report.data import status_data, status_json
from chronik.report.page import cells
from chronik.report.status import age, endpoints, line, picture, table
from chronik.status.compute import Observation, derive
from chronik.status.view import ClusterView, cluster_from_objects, cluster_view
from chronik.status.view_parts import is_growing

ESCAPE = re.compile("\x1b\\[[0-9;]*m")
EXAMPLE = Path(__file__).parents[2] / "examples" / "standard.yaml"
DATA = "data-standard-ingest"
KEY = ClusterKey("default", "standard")
BEGAN, NOW = "2026-01-01T00:00:00Z", "2026-01-01T03:00:00Z"
KINDS = {"controller": "StatefulSet", "ingest": "StatefulSet", "search": "Deployment"}
COUNTS = {"controller": 3, "ingest": 3, "search": 2}
HEAD = ["NAMESPACE", "NAME", "PHASE", "READY", "CONTROLLERS", "INGEST", "SEARCH", "AGE", "WAITS", "FOR"]
STANDARD = offline.load_clusters([str(EXAMPLE)])[0][0]


def workload(component: str, ready: int | None = None, wanted: int | None = None, generation: int = 1) -> Manifest:
    """Return a workload that has rolled out, of whose pods some, or else all, are ready."""
    count = COUNTS[component] if wanted is None else wanted
    ready = count if ready is None else ready
    counts = dict.fromkeys(("replicas", "updatedReplicas"), count)
    return {
        "kind": KINDS[component],
        "metadata": {
            "name": f"standard-{component}",
            "namespace": "default",
            "generation": generation,
            "creationTimestamp": BEGAN,
        },
        "spec": {"replicas": count},
        "status": {"observedGeneration": generation, **counts, "readyReplicas": ready, "availableReplicas": ready},
    }


def pod(component: str, ordinal: int, *, ready: bool = True, waiting: str = "", **status: Any) -> Manifest:
    """Return a pod, which may be stuck."""
    stuck = [{"state": {"waiting": {"reason": waiting, "message": "no such image"}}}] if waiting else []
    return {
        "metadata": {"name": f"standard-{component}-{ordinal}", "labels": {COMPONENT_LABEL: component}},
        "status": {
            "phase": "Pending" if waiting else "Running",
            "conditions": [{"type": "Ready", "status": str(ready and not waiting)}],
            "containerStatuses": stuck,
            **status,
        },
    }


def claim(component: str, ordinal: int, *, phase: str = "Bound", size: str = "20Gi", has: str = "20Gi") -> Manifest:
    """Return a volume claim of a component."""
    return {
        "metadata": {"name": f"data-standard-{component}-{ordinal}", "namespace": "default"},
        "spec": {"resources": {"requests": {"storage": size}}, "storageClassName": "fast"},
        "status": {"phase": phase, **({"capacity": {"storage": has}} if phase == "Bound" else {})},
    }


def service(kind: str = "ClusterIP", **status: Any) -> Manifest:
    """Return the Service that clients use."""
    return {
        "kind": "Service",
        "metadata": {"name": "standard-ingest-client", "namespace": "default"},
        "spec": {"type": kind, "clusterIP": "10.0.0.1", "ports": [{"port": 9092, "nodePort": 30092}]},
        "status": status,
    }


def autoscaler(component: str = "ingest", current: int = 3, desired: int = 3, *conditions: Manifest) -> Manifest:
    """Return the autoscaler of a component."""
    return {
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": f"standard-{component}-hpa", "namespace": "default"},
        "spec": {"minReplicas": 2, "maxReplicas": 9},
        "status": {"currentReplicas": current, "desiredReplicas": desired, "conditions": list(conditions)},
    }


def objects(*others: Manifest) -> dict[ObjectRef, Manifest]:
    """Return a healthy cluster's objects, with some in place of its own."""
    return {ObjectRef.of(each): each for each in (*map(workload, COUNTS), service(), *others)}


RESTARTED = pod("ingest", 0, containerStatuses=[{"restartCount": 1}])
HEALTHY = LiveCluster(
    objects=objects(),
    pods=[pod(component, ordinal) for component, count in COUNTS.items() for ordinal in range(count)],
    claims=[claim(component, ordinal) for component in ("controller", "ingest") for ordinal in range(3)],
)


def document(status: dict[str, Any] | None = None, generation: int = 2, **metadata: Any) -> Manifest:
    """Return the cluster's ChronikCluster; its status is what an operator would write now, unless given."""
    derived = derive(STANDARD, Observation(HEALTHY.objects, HEALTHY.pods, generation=generation), BEGAN)
    return {
        "metadata": {"name": "standard", "creationTimestamp": BEGAN, "generation": generation, **metadata},
        "status": derived if status is None else status,
    }


def view(found: LiveCluster = HEALTHY, **changes: Any) -> ClusterView:
    """Return the view of the cluster."""
    return cluster_view(STANDARD, "document" if found.document else "file", replace(found, **changes), NOW)


def text(shown: ClusterView, width: int | None = None) -> str:
    """Return its picture without colours."""
    return picture([shown], NOW, width=width, color=False)


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_a_healthy_cluster():
    """What is well takes few lines: components with their counts, volumes, addresses, and one word in the end."""
    assert text(view()) == (
        "default/standard  Running\n"
        "  created 3h ago, applied without an operator\n"
        "\n"
        "Components\n"
        "  controllers   3/3\n"
        "  ingest nodes  3/3\n"
        "  search nodes  2/2\n"
        "\n"
        "Volumes\n"
        "  controllers   3 x 20Gi, bound\n"
        "  ingest nodes  3 x 20Gi, bound\n"
        "\n"
        "Addresses\n"
        "  clients       standard-ingest-client.default.svc.cluster.local:9092 (ClusterIP)\n"
        "  controllers   standard-controller-{0,1,2}.standard-controller.default.svc.cluster.local:9090\n"
        "  ingest nodes  standard-ingest-{0,1,2}.standard-ingest.default.svc.cluster.local:9092\n"
        "  search nodes  standard-search.default.svc.cluster.local:9093\n"
        "\n"
        "Ready\n"
    )


def test_pods_that_cannot_run():
    """Trouble is told below its component in the pods' own words, once for all pods that have the same."""
    pods = [pod("ingest", 0), pod("ingest", 1, waiting="ErrImagePull"), pod("ingest", 2, waiting="ErrImagePull")]

    shown = text(view(objects=objects(workload("ingest", 1)), pods=pods))

    assert "  ingest nodes  1/3\n    standard-ingest-{1,2}: ErrImagePull: no such image\n  search" in shown
    assert shown.endswith("\nWaits for ingest nodes (1/3)\n")


def test_images_that_pods_run():
    """Each component's images are named in full, two while its pods are replaced, and who last brought it there."""
    pods = [pod("ingest", number) for number in range(2)]
    for number, each in enumerate(pods):
        each["spec"] = {"containers": [{"name": "ingest", "image": f"example.com/chronik/ingest:1.{number}"}]}
    kept = document()
    kept["status"]["operatorVersion"] = "1.2.0"

    shown = text(view(pods=pods, document=kept))

    assert "Images\n  ingest nodes  example.com/chronik/ingest:1.0, example.com/chronik/ingest:1.1\n\n" in shown
    assert "ago, generation 2, by the operator 1.2.0\n" in shown


def test_pods_that_only_take_their_time():
    """Pods that are not ready for no fault of theirs are named with the stage they are at."""
    pods = [pod("ingest", 0), pod("ingest", 1, ready=False), pod("ingest", 2, ready=False, phase="Pending")]

    shown = text(view(objects=objects(workload("ingest", 1)), pods=pods))

    assert (
        "  ingest nodes  1/3  1 of 3 pods ready\n"
        "    standard-ingest-1: runs, but is not ready\n"
        "    standard-ingest-2: is Pending\n"
    ) in shown


def test_pods_with_a_stand_in():
    """A pod that was evicted and has been replaced is no news."""
    gone = pod("search", 7, ready=False, phase="Failed", reason="Evicted")

    assert "standard-search-7" not in text(view(pods=[*HEALTHY.pods, gone]))


def test_a_roll_out():
    """While revisions change, it says how far that is."""
    rolling = workload("ingest")
    rolling["status"] |= {"updatedReplicas": 1, "currentRevision": "a", "updateRevision": "b"}

    assert "  ingest nodes  3/3  1 of 3 pods run the newest revision\n" in text(view(objects=objects(rolling)))


def test_restarts():
    """Containers that were started again are counted."""
    pods = [pod("ingest", 0, containerStatuses=[{"restartCount": 2}, {"restartCount": 1}])]

    assert "  ingest nodes  3/3  3 restarts\n" in text(view(pods=pods))


@pytest.mark.parametrize(
    ("scaler", "told"),
    [
        (autoscaler(), "scaled between 2 and 9, now 3"),
        (autoscaler("ingest", 3, 5), "scaled between 2 and 9, now 3, going to 5"),
        (autoscaler("ingest", 0, 0), "scaled between 2 and 9, now 0"),
        (
            autoscaler("ingest", 3, 3, {"type": "ScalingActive", "status": "False", "message": "no metrics"}),
            "scaled between 2 and 9, now 3, the autoscaler is stuck: no metrics",
        ),
        (
            autoscaler("ingest", 3, 3, {"type": "ScalingLimited", "status": "False", "message": "fine"}),
            "scaled between 2 and 9, now 3",
        ),
    ],
    ids=["calm", "going", "new", "stuck", "unlimited"],
)
def test_autoscalers(scaler, told):
    """An autoscaler shows its bounds, where it is and goes, and why it does nothing."""
    assert f"  ingest nodes  3/3  {told}\n" in text(view(objects=objects(scaler)))


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ([claim("ingest", 0), claim("ingest", 1)], "2 x 20Gi, bound"),
        ([claim("ingest", 0), claim("ingest", 1, phase="Pending")], "2 x 20Gi, data-standard-ingest-1 pending"),
        ([claim("ingest", 0, size="40Gi")], "1 x 40Gi, data-standard-ingest-0 growing"),
        ([claim("ingest", 0, size="20Gi", has="500Gi")], "1 x 20Gi, bound"),
        ([claim("ingest", 0), claim("ingest", 1, size="40Gi", has="40Gi")], "1 x 20Gi and 1 x 40Gi, bound"),
        ([claim("ingest", 0), claim("ingest", 3)], "1 x 20Gi, bound, kept from before: data-standard-ingest-3"),
        ([claim("ingest", 5)], "kept from before: data-standard-ingest-5"),
        (
            [claim("ingest", 10), claim("ingest", 9)],
            f"kept from before: {DATA}-9, {DATA}-10",
        ),
    ],
    ids=["bound", "pending", "growing", "larger", "mixed", "spare", "only-spare", "order"],
)
def test_volumes(claims, told):
    """Volumes are summed up by size; those that are not as they should be, or that no pod uses, are named."""
    assert f"\nVolumes\n  ingest nodes  {told}\n" in text(view(claims=claims))


def test_claims_of_others():
    """A claim that only looks alike belongs to somebody else."""
    stranger = claim("ingest", 0)
    stranger["metadata"]["name"] = "data-standard-ingest-0-backup"

    assert "Volumes" not in text(view(claims=[stranger]))


def test_is_growing_without_sizes():
    """A size that is no quantity, or is not there yet, is no growth."""
    found = view(claims=[claim("ingest", 0, size="x")]).components[1].volumes

    assert not is_growing(found[0])


@pytest.mark.parametrize(
    ("exposed", "told"),
    [
        (service(), "(ClusterIP)"),
        (service("NodePort"), "(NodePort), from outside any node:30092"),
        (
            service("LoadBalancer", loadBalancer={"ingress": [{"hostname": "lb.example.com"}, {"ip": "192.0.2.1"}]}),
            "(LoadBalancer), from outside lb.example.com:9092, 192.0.2.1:9092",
        ),
        (service("LoadBalancer"), "(LoadBalancer)"),
    ],
    ids=["inside", "node-port", "balanced", "unbalanced"],
)
def test_addresses(exposed, told):
    """Clients learn where to connect to, from inside and from outside."""
    shown = text(view(objects=objects(exposed)))

    assert f"  clients       standard-ingest-client.default.svc.cluster.local:9092 {told}\n" in shown


def test_headless_services_are_no_addresses():
    """The Services that only give pods their names are not shown as addresses for clients."""
    headless = service()
    headless["spec"]["clusterIP"] = "None"

    assert "clients" not in text(view(objects=objects(headless)))


def test_aliases_say_where_they_lead():
    """Of each alias the picture says whether it leads here, to another cluster, or is not there."""
    aliases = [{"name": "a", "active": "standard"}, {"name": "b", "active": "green"}, {"name": "c"}]
    shown = text(view(document=document({"aliases": aliases})))
    found = [" ".join(each.split()) for each in shown.splitlines() if each.split()[:1] == ["alias"]]

    assert found == ["alias a leads here", "alias b leads to green", "alias c leads nowhere: it is not there"]


def test_services_of_members_are_no_addresses():
    """The Services by which members find each other, ready or not, are not shown as addresses for clients."""
    peers = service()
    peers["spec"]["publishNotReadyAddresses"] = True

    assert "clients" not in text(view(objects=objects(peers)))


def test_a_list_of_nodes_has_a_column_for_them():
    """Clusters of nodes that are all alike have one count; beside others, each has its own columns."""
    [unified], _ = offline.load_clusters([str(EXAMPLE.parent / "unified.yaml")])
    alone = cluster_view(unified, "document", LiveCluster(), NOW)

    assert table([alone], NOW, width=None, color=False).split()[4:6] == ["NODES", "AGE"]
    assert table([view(), alone], NOW, width=None, color=False).split()[4:8] == [
        "CONTROLLERS",
        "INGEST",
        "SEARCH",
        "NODES",
    ]


def test_a_load_balancer_without_an_address():
    """What it waits for besides its pods is told, too."""
    shown = view(objects=objects(service("LoadBalancer")))

    assert shown.waits_for == ("standard-ingest-client: the load balancer has no address yet",)
    assert shown.ready
    assert text(shown).endswith("\nReady\nWaits for standard-ingest-client: the load balancer has no address yet\n")


@pytest.mark.parametrize("width", [40, 80, 160])
def test_pictures_fit(width):
    """However narrow the terminal, no line is wider, and nothing is lost."""
    pods = [pod("ingest", ordinal, waiting="ErrImagePull") for ordinal in range(3)]
    ill = view(objects=objects(workload("ingest", 0), autoscaler()), pods=pods, document=document())

    shown = text(ill, width)

    assert max(cells(row) for row in shown.splitlines()) <= width
    assert "nosuchimage" in "".join(shown.split())
    assert "░░" in shown


def test_colours():
    """Colours only colour: without them the text is the same, and NO_COLOR gets none."""
    ill = view(objects=objects(workload("ingest", 1)), pods=[pod("ingest", 1, waiting="ErrImagePull")])
    coloured = picture([ill], NOW, width=80, color=True)

    assert ESCAPE.sub("", coloured) == text(ill, 80)
    assert "\x1b[31m" in coloured
    assert "\x1b" not in text(ill, 80)


def test_bars():
    """A bar is as full as the component, and only on a terminal."""
    shown = text(view(objects=objects(workload("ingest", 1))), 80)

    assert "  controllers   ████████████ 3/3" in shown
    assert "  ingest nodes  ████░░░░░░░░ 1/3" in shown
    assert "█" not in text(view())


def test_hostile_messages():
    """What a pod says cannot steer the terminal."""
    nasty = pod(
        "ingest", 0, containerStatuses=[{"state": {"waiting": {"reason": "ErrImagePull", "message": "\x1b[2J"}}}]
    )

    shown = text(view(objects=objects(workload("ingest", 2)), pods=[nasty]), 80)

    assert "\x1b" not in shown
    assert "\\x1b[2J" in shown


# --- phases and verdicts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "phase"),
    [
        ({}, "Running"),
        ({"objects": objects(workload("ingest", 1))}, "Creating"),
        ({"objects": objects(workload("ingest", 1, generation=2))}, "Updating"),
        (
            {
                "objects": objects(workload("ingest", 1)),
                "pods": [RESTARTED],
            },
            "Updating",
        ),
    ],
    ids=["ready", "new", "changed", "crashed"],
)
def test_phase_without_an_operator(changes, phase):
    """Without an operator, a cluster that is not ready is new, unless something tells of an earlier life."""
    assert view(**changes).phase == phase


@pytest.mark.parametrize(
    ("changes", "phase", "ready", "note"),
    [
        ({}, "Running", True, ""),
        ({"status": {}}, "Pending", False, "No operator has looked at it yet"),
        ({"status": {"phase": "Running", "observedGeneration": 1}}, "Running", False, "has seen generation 1, and"),
        (
            {"status": {"phase": "Updating", "observedGeneration": 2, "conditions": []}},
            "Updating",
            False,
            "The operator last called it Updating",
        ),
        ({"annotations": {"chronik.stream/paused": "true"}}, "Running", True, "It is paused"),
        ({"deletionTimestamp": NOW, "finalizers": ["a/b"]}, "Deleting", False, ""),
    ],
    ids=["content", "no-operator", "behind", "other-opinion", "paused", "deleting"],
)
def test_with_an_operator(changes, phase, ready, note):
    """The operator's word counts if it is about the newest spec; where it is not to be relied on, a note says so."""
    shown = view(document=document(**changes))

    assert (shown.phase, shown.ready) == (phase, ready)
    assert note in " ".join(shown.notes)
    assert bool(shown.notes) == bool(note)


def test_a_paused_cluster():
    """Wherever a cluster is shown, one that is paused says so; in full also what that means, if it is ready."""
    paused = view(document=document(annotations={"chronik.stream/paused": "true"}))

    assert text(paused).startswith("default/standard  Running (paused)\n")
    assert text(paused).endswith("\nReady as it is: it is paused, and need not be what its document says\n")
    assert "Running (paused)  yes" in table([paused], NOW, width=None, color=False)
    assert line(paused).startswith("default/standard Running (paused): ")
    assert (status_data([paused])["clusters"][0]["paused"], status_data([view()])["clusters"][0]["paused"]) == (
        True,
        False,
    )


@pytest.mark.parametrize(
    ("height", "sections"),
    [
        (40, ["Components", "Volumes", "Addresses", "Conditions"]),
        (24, ["Components", "Volumes", "Conditions"]),
        (16, ["Components", "Volumes"]),
        (10, ["Components"]),
        (5, []),
    ],
)
def test_a_low_terminal(height, sections):
    """A picture that does not fit loses what can best be spared, and never its end."""
    shown = view(document=document(), objects=objects(workload("ingest", 1)))
    rows = picture([shown], NOW, width=100, color=False, height=height).splitlines()
    titles = {"Components", "Volumes", "Addresses", "Conditions"}

    assert len(rows) <= height
    assert [row for row in rows if row in titles] == sections
    assert rows[0].startswith("default/standard")
    assert rows[-1] == "Waits for ingest nodes (1/3)"


def test_an_operator_that_missed_a_crash():
    """A cluster that its operator called ready is not, if its pods are not."""
    shown = view(document=document(), objects=objects(workload("ingest", 2)))

    assert not shown.ready
    assert shown.notes == ("The operator last called it Running; the components are as they are now.",)


INIT_CONTAINERS = {
    "still running": ({"running": {}}, "is still running, and its log says what it waits for"),
    "failed": ({"terminated": {"exitCode": 1, "reason": "Error"}}, "failed: Error, code 1"),
    "not started": ({"waiting": {"reason": "PodInitializing"}}, "has not started yet"),
    "held up": ({"waiting": {"reason": "Pulling", "message": "slow"}}, "waits: Pulling: slow"),
}


@pytest.mark.parametrize(("state", "words"), INIT_CONTAINERS.values(), ids=INIT_CONTAINERS)
def test_an_init_container_that_waits_is_named(state, words):
    """A pod whose init container has not ended says which one it is, and how far it is."""
    done = {"name": "done", "state": {"terminated": {"exitCode": 0}}}
    beside = {"name": "beside", "started": True, "ready": True, "state": {"running": {}}}
    init = [done, beside, {"name": "wait-for-db", "state": state}, {"name": "last", "state": {"waiting": {}}}]
    waits = pod("ingest", 1, ready=False, phase="Pending", initContainerStatuses=init)
    shown = view(objects=objects(workload("ingest", 1)), pods=[waits])

    assert f"standard-ingest-1: init container wait-for-db {words}" in shown.components[1].reason


def test_deletion_waits_for_finalizers():
    """A cluster on its way out says what holds it."""
    shown = view(document=document(deletionTimestamp=NOW, finalizers=["chronik.stream/finalizer"]))

    assert shown.waits_for == ("its operator, which takes the finalizer chronik.stream/finalizer off when it runs",)


def test_what_needs_a_person_comes_first():
    """A permanent error is the first thing that a cluster waits for, and its operator's words are shown."""
    stalled = {
        "type": "Stalled",
        "status": "True",
        "reason": "InvalidSpec",
        "message": "spec.x: no",
        "lastTransitionTime": BEGAN,
    }
    status = {"phase": "Failed", "observedGeneration": 2, "conditions": [stalled]}

    shown = view(document=document(status), objects=objects(workload("ingest", 1)))

    assert shown.waits_for[0] == "a fix: InvalidSpec: spec.x: no"
    assert "  Stalled  True     3h  InvalidSpec: spec.x: no\n" in text(shown)


@pytest.mark.parametrize(("seen", "waits"), [(2, ("its operator: c waits for Secret s",)), (1, ())])
def test_what_the_operator_waits_for_is_its_words(seen, waits):
    """Where all pods are ready, what the operator says that it waits for is shown, if it is about the newest spec."""
    told = [
        {"type": "Ready", "status": "False", "reason": "Waiting", "lastTransitionTime": BEGAN},
        {"type": "Reconciling", "status": "True", "reason": "Waiting", "lastTransitionTime": BEGAN}
        | {"message": "c waits for Secret s"},
    ]
    shown = view(document=document({"phase": "Updating", "observedGeneration": seen, "conditions": told}))

    assert not shown.ready
    assert shown.waits_for == waits
    assert text(shown).splitlines()[-1] == f"Waits for {waits[0] if waits else 'its operator'}"


def test_conditions_have_ages():
    """An operator's conditions are shown with the time since they turned, and without repeating the components."""
    ill = Observation(objects(workload("ingest", 1)), generation=2)
    shown = text(view(document=document(derive(STANDARD, ill, "2026-01-01T02:55:00Z")), objects=ill.objects))

    assert "  Ready             False    5m  ComponentsNotReady\n" in shown
    assert "  ControllersReady  True     5m  AllControllersReady: 3/3 controllers ready\n" in shown


def test_nothing_but_a_document():
    """A cluster of which nothing has been made yet waits for all its parts."""
    shown = text(view(LiveCluster(document=document({}))))

    assert shown.startswith("default/standard  Pending\n  created 3h ago, generation 2\n  No operator has looked")
    assert "  controllers   0/3  StatefulSet standard-controller does not exist\n" in shown
    assert shown.endswith("\nWaits for controllers (0/3), ingest nodes (0/3), search nodes (0/2)\n")


# --- a spec from live objects -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "counts"),
    [
        (HEALTHY, (3, 3, 2)),
        (LiveCluster(objects=objects(workload("ingest", 5, 5), autoscaler())), (3, 5, 2)),
        (LiveCluster(objects={ObjectRef.of(workload("ingest")): workload("ingest")}), (1, 3, 0)),
        (LiveCluster(), (1, 1, 0)),
    ],
    ids=["healthy", "scaled", "half-gone", "nothing"],
)
def test_a_spec_from_live_objects(found, counts):
    """Where nobody knows the spec, the objects tell as much of it as matters here."""
    spec = cluster_from_objects(KEY, found, offline.validator().validate).spec

    assert (spec["controllers"], spec["ingestNodes"], spec["searchNodes"]) == counts
    assert bool(spec["autoscaling"]) == any(ref.kind == "HorizontalPodAutoscaler" for ref in found.objects)


@pytest.mark.parametrize("key", [KEY, ClusterKey("streaming", "No.Name"), ClusterKey("streaming", "x" * 60)])
def test_what_no_document_may_say_can_be_looked_at(key):
    """A component that was scaled to nothing, or a label that is no name of a cluster, is shown as it is."""
    found = LiveCluster(objects=objects(workload("controller", 0, 0)))
    seen = cluster_view(cluster_from_objects(key, found, offline.validator().validate), "objects", found, NOW)

    assert seen.key == key
    assert table([seen], NOW, width=None, color=False)


# --- many, lines, data ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "gone"), [(200, set()), (94, {"AGE"}), (60, {"AGE", "CONTROLLERS", "INGEST", "SEARCH"})]
)
def test_a_narrow_table(width, gone):
    """On a narrow terminal, columns that matter less make room for what a cluster waits for."""
    ill = view(objects=objects(workload("ingest", 1)))
    head, row = (line.split() for line in table([ill], NOW, width=width, color=False).splitlines())

    assert set(HEAD) - set(head) == gone
    assert "ingest" in row


def test_waiting_with_enough_pods():
    """Where enough pods are ready, what is waited for says what else is to come."""
    rolling = workload("ingest", 3, 3)
    rolling["status"] |= {"updatedReplicas": 1}

    assert text(view(objects=objects(rolling))).endswith(
        "Waits for ingest nodes (1 of 3 pods run the newest revision)\n"
    )


def test_a_table():
    """Many clusters are a line each, cut at the edge of the terminal."""
    ill = view(objects=objects(workload("ingest", 1)))
    rows = table([view(), ill], NOW, width=None, color=False).splitlines()

    assert rows[0].split() == HEAD
    assert rows[1].split() == ["default", "standard", "Running", "yes", "3/3", "3/3", "2/2", "3h"]
    assert rows[2].split(maxsplit=8)[3:] == ["no", "3/3", "1/3", "2/2", "3h", "ingest nodes: 1 of 3 pods ready"]
    assert max(map(len, table([view(), ill], NOW, width=60, color=False).splitlines())) <= 60


def test_a_table_without_search_nodes():
    """A component that a cluster does not have is a dash."""
    cluster = replace(STANDARD, spec={**STANDARD.spec, "searchNodes": 0})

    row = table([cluster_view(cluster, "file", HEALTHY, NOW)], NOW, width=None, color=False).splitlines()[1]

    assert row.split() == ["default", "standard", "Running", "yes", "3/3", "3/3", "-", "3h"]


def test_a_line():
    """A log gets one line, whatever pods say."""
    ill = view(objects=objects(workload("ingest", 1)), pods=[pod("ingest", 1, waiting="ErrImagePull")])

    assert line(ill) == (
        "default/standard Creating: controllers 3/3, ingest nodes 1/3, search nodes 2/2;"
        " waits for ingest nodes: standard-ingest-1: ErrImagePull: no such image\n"
    )
    assert line(view()) == "default/standard Running: controllers 3/3, ingest nodes 3/3, search nodes 2/2; ready\n"


def test_data():
    """Programs get the same facts, under keys that stay."""
    ill = view(objects=objects(workload("ingest", 1), autoscaler()), pods=[pod("ingest", 1, waiting="ErrImagePull")])
    (found,) = status_data([ill])["clusters"]
    ingest = found["components"][1]

    assert list(found) == [
        *("namespace", "name", "phase", "ready", "created", "generation", "paused", "specFrom", "components"),
        *("addresses", "waitsFor", "notes", "additions", "status"),
    ]
    assert (found["phase"], found["ready"], found["created"], found["generation"]) == ("Creating", False, BEGAN, None)
    assert ingest == {
        "name": "ingestNodes",
        "workload": "StatefulSet/default/standard-ingest",
        "wanted": 3,
        "ready": 1,
        "existing": 3,
        "updated": 3,
        "settled": False,
        "state": "Failed",
        "message": "standard-ingest-1: ErrImagePull: no such image",
        "images": [],
        "endpoints": [],
        "autoscaler": {"minimum": 2, "maximum": 9, "current": 3, "desired": 3, "trouble": None},
        "pods": [
            {
                "name": "standard-ingest-1",
                "phase": "Pending",
                "ready": False,
                "restarts": 0,
                "trouble": "ErrImagePull: no such image",
                "waits": None,
            }
        ],
        "volumes": [
            {
                "name": f"data-standard-ingest-{ordinal}",
                "requested": "20Gi",
                "capacity": "20Gi",
                "phase": "Bound",
                "storageClass": "fast",
                "spare": False,
            }
            for ordinal in range(3)
        ],
    }


def test_data_has_no_invented_times():
    """Without an operator nobody knows since when something is so, and nothing claims to."""
    (found,) = status_data([view()])["clusters"]

    assert "lastUpdated" not in found["status"]
    assert {key for each in found["status"]["conditions"] for key in each} == {"type", "status", "reason", "message"}


def test_data_as_text():
    """JSON and YAML hold the same; a compact JSON is one line."""
    data = status_data([view(), view(document=document())])

    assert json.loads(status_json([view(), view(document=document())])) == data
    assert yaml.safe_load(to_yaml_stream([data])) == data
    assert status_json([view()], compact=True).count("\n") == 1


@pytest.mark.parametrize(
    ("since", "told"),
    [
        ("2026-01-01T03:00:00Z", "0s"),
        ("2026-01-01T03:00:05Z", "0s"),
        ("2026-01-01T02:58:01Z", "119s"),
        ("2026-01-01T02:58:00Z", "2m"),
        ("2026-01-01T01:00:01Z", "119m"),
        ("2026-01-01T01:00:00Z", "2h"),
        ("2025-12-30T03:00:00Z", "2d"),
        ("2024-01-01T03:00:00Z", "731d"),
        ("yesterday", "?"),
    ],
)
def test_ages(since, told):
    """Ages are short and never negative: clocks differ."""
    assert age(since, NOW) == told


@pytest.mark.parametrize(
    ("addresses", "told"),
    [
        (["c-x-0.c-x.ns.svc:1"], "c-x-0.c-x.ns.svc:1"),
        (["c-x-0.c-x.ns.svc:1", "c-x-12.c-x.ns.svc:1"], "c-x-{0,12}.c-x.ns.svc:1"),
        (["c-x.ns.svc:1"], "c-x.ns.svc:1"),
        (["a-0.x:1", "b-0.x:1"], "a-0.x:1, b-0.x:1"),
        (["a-0.x:1", "a-1.y:1"], "a-0.x:1, a-1.y:1"),
    ],
)
def test_endpoints(addresses, told):
    """Addresses that differ in the pod's number only are written as one."""
    assert endpoints(addresses) == told
