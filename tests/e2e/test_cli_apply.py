"""`chronik apply` against both servers, as somebody uses it: again, after edits, with less, with others in the way."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support.cli_place import SPEC, Place, environment, run
from support.fault_proxy import FaultProxy
from support.kube_clients import kubeconfig_for

from chronik.cli.common import Warnings
from chronik.cli.parameters import Duration
from chronik.errors import Unreachable
from chronik.kube.client import ApiKube
from chronik.manifest import KINDS, ObjectRef
from chronik.offline import assets

OBJECTS, LISTS = 17, 13


@pytest.fixture
def place(server, namespace, tmp_path):
    """Return a fresh namespace of a server."""
    return Place(server, namespace, tmp_path)


def objects(done, outcome):
    """Return the names of objects in a JSON report that met with an outcome."""
    (cluster,) = done.json["clusters"]
    return [each["name"] for each in cluster["objects"] if each["outcome"] == outcome]


# --- as it should be --------------------------------------------------------------------------------------------------


def test_new_cluster_is_created(place):
    """The first apply creates every object that render prints, one line each, and counts them."""
    done = place.apply()
    lines = done.out.splitlines()

    assert (done.code, done.err) == (0, "")
    assert len(lines) == OBJECTS + 1
    assert [line.split()[0] for line in lines[:-1]] == [str(ObjectRef.of(each)) for each in place.rendered()]
    assert {line.split()[1] for line in lines[:-1]} == {"created"}
    assert lines[-1].startswith(f"{place.namespace}/c: {OBJECTS} created, 0 changed, 0 unchanged in ")
    assert set(place.live()) == {ObjectRef.of(each) for each in place.rendered()}


def test_apply_again_writes_nothing(place):
    """An apply of what is there already sends one LIST for each kind and one for claims, and nothing else."""
    place.apply()
    before = len(place.asked())
    done = place.apply()
    asked = place.asked()[before:]

    assert done.code == 0
    assert done.out.startswith(f"{place.namespace}/c: 0 created, 0 changed, {OBJECTS} unchanged in ")
    assert len(done.out.splitlines()) == 1
    assert {request.verb for request in asked} == {"list"}
    assert sorted(request.resource for request in asked) == sorted(
        [*(kind.plural for kind in KINDS), "persistentvolumeclaims"]
    )


def test_one_change_is_one_write(place):
    """A spec that differs in one thing writes the one object that it is about, once."""
    place.apply()
    before = len(place.asked())
    done = place.apply(ingestNodes=4)

    assert done.out.splitlines()[0].split() == [
        "StatefulSet/" + place.namespace + "/c-ingest",
        "changed",
        "1",
        "change",
    ]
    assert [(each.verb, each.name) for each in place.asked()[before:] if each.writes] == [("patch", "c-ingest")]


def test_restarts_are_announced(place):
    """A change of the pods' template says that pods restart."""
    place.apply()
    image = {**SPEC["image"], "ingest": "chronik/ingest:1.5.0"}
    done = place.apply(image=image)

    assert f"StatefulSet/{place.namespace}/c-ingest  changed  1 change, its pods restart" in done.out


# --- with others in the way -------------------------------------------------------------------------------------------


def test_edits_of_others_are_asked_about(place):
    """What somebody else set is named with its owner and left alone; all else is applied."""
    place.apply()
    patch = {"spec": {"replicas": 5}}
    place.edit("StatefulSet", "c-ingest", patch)
    done = place.apply(controllers=3)
    live = place.live()

    assert done.code == 4
    assert f"StatefulSet/{place.namespace}/c-ingest      conflict  kubectl-edit set spec.replicas" in done.out
    assert "spec.replicas: kubectl-edit (update)" in done.err
    assert "--force-conflicts" in done.err
    assert live[ObjectRef("StatefulSet", place.namespace, "c-ingest")]["spec"]["replicas"] == 5
    assert live[ObjectRef("StatefulSet", place.namespace, "c-controller")]["spec"]["replicas"] == 3


def test_force_says_what_it_took(place):
    """With --force-conflicts the field is taken, and the report says from whom; the next apply has nothing to do."""
    place.apply()
    place.edit("StatefulSet", "c-ingest", {"spec": {"replicas": 5}})
    done = place.apply("--force-conflicts")

    assert done.code == 0
    assert "took spec.replicas from kubectl-edit (update)" in done.out
    assert place.live()[ObjectRef("StatefulSet", place.namespace, "c-ingest")]["spec"]["replicas"] == 2
    assert f" 0 changed, {OBJECTS} unchanged" in place.apply().out


@pytest.mark.parametrize("more", [(), ("--force-conflicts",), ("--dry-run=client",)], ids=" ".join)
def test_operator_is_left_alone(place, more):
    """A cluster that an operator manages is refused once, with what to do instead, and nothing is sent."""
    place.operate()
    done = place.apply(*more, controllers=3)
    document = next(each for each in place.folder.iterdir() if "controllers: 3" in each.read_text())

    assert (done.code, done.out) == (4, "")
    assert done.err == (
        f"error: {place.namespace}/c: an operator manages this cluster, so nothing was sent\n"
        f"  Change its ChronikCluster instead: `kubectl apply -f {document}`.\n"
    )
    assert not [each for each in place.asked() if each.writes]


def test_operator_in_json(place):
    """For programs, an operator's cluster is a conflict without objects, and says whose it is."""
    place.operate()
    done = place.apply("-o", "json")
    (cluster,) = done.json["clusters"]

    assert (done.code, cluster["ok"], cluster["operator"]) == (4, False, True)
    assert cluster["error"]["reason"] == "ResourceConflict"
    assert cluster["objects"] == []


def test_foreign_object_stops_nothing_but_itself(place):
    """An object that is not ours is named with what to do, stays as it is, and everything else is applied."""
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "c-ingest"}, "spec": {"ports": [{"port": 1}]}}
    place.call("PATCH", "Service", "c-ingest", theirs, fieldManager="them")
    before = place.call("GET", "Service", "c-ingest").body
    done = place.apply()

    assert done.code == 4
    assert f"error: Service/{place.namespace}/c-ingest: is not chronik's, though it has this name\n" in done.err
    assert "chronik.stream/cluster=c app.kubernetes.io/managed-by=chronik-operator, and run `chronik apply`" in done.err
    assert f"{OBJECTS - 1} created, 0 changed, 0 unchanged, 1 foreign" in done.out
    assert place.call("GET", "Service", "c-ingest").body == before


def test_partial_failure(place):
    """What the server refuses is named with its words, and the rest is applied: exit code 5."""
    broken = place.folder / "broken"
    broken.mkdir()
    template = (assets.TEMPLATES / "clientservice.yaml.j2").read_text()
    (broken / "clientservice.yaml.j2").write_text(template.partition("  ports:\n")[0] + "  ports: []\n")
    done = place.apply("--templates", str(broken))

    assert done.code == 5
    assert f"Service/{place.namespace}/c-ingest-client" in done.err
    assert "spec.ports" in done.err
    assert f"{OBJECTS - 1} created, 0 changed, 0 unchanged, 1 failed" in done.out
    assert "Traceback" not in done.err


# --- with less --------------------------------------------------------------------------------------------------------


def test_prune_removes_exactly_what_is_no_longer_wanted(place):
    """Objects of a component that is gone are named by a plain apply, and deleted by --prune: they alone."""
    place.apply()
    everything = set(place.live())
    kept = {"metadata": {"labels": {"chronik.stream/cluster": "c"}}, "data": {}}
    place.call("POST", "ConfigMap", body={**kept, "metadata": {**kept["metadata"], "name": "mine"}})
    plain = place.apply(searchNodes=0)
    assert plain.code == 0
    assert "note: " in plain.err
    assert "no longer part of the cluster\n  chronik apply --prune" in plain.err
    assert everything < set(place.live())

    pruned = place.apply("--prune", "-o", "json", searchNodes=0)
    wanted = {ObjectRef.of(each) for each in place.rendered(searchNodes=0)}

    assert pruned.code == 0
    assert set(objects(pruned, "pruned")) == {"c-search"}
    assert set(place.live()) == wanted | {ObjectRef("ConfigMap", place.namespace, "mine")}
    assert len(objects(pruned, "pruned")) == len(everything) - len(wanted)


def test_nothing_is_pruned_after_trouble(place):
    """If any object is in the way, nothing is deleted."""
    place.apply()
    place.edit("StatefulSet", "c-ingest", {"spec": {"replicas": 5}})
    before = set(place.live())
    done = place.apply("--prune", searchNodes=0)

    assert done.code == 4
    assert f"because of StatefulSet/{place.namespace}/c-ingest" in done.out
    assert set(place.live()) == before


# --- dry runs ---------------------------------------------------------------------------------------------------------


def test_client_side_dry_run_writes_nothing(place):
    """--dry-run=client asks what is there, sends no write, and says what would be done."""
    done = place.apply("--dry-run", "client")

    assert done.code == 0
    assert f"{OBJECTS} created, 0 changed, 0 unchanged" in done.out
    assert "(dry run: nothing was sent)" in done.out
    assert {request.method for request in place.asked()} == {"GET"}


def test_client_side_dry_run_knows_foreign_objects(place):
    """It also looks at objects that only have a name in common, as an apply would find them out."""
    place.call("POST", "ServiceAccount", body={"metadata": {"name": "c-ingest"}})

    assert objects(place.apply("--dry-run", "client", "-o", "json"), "foreign") == ["c-ingest"]


def test_server_side_dry_run_keeps_nothing(place):
    """--dry-run=server sends every write, has it checked, and nothing is there afterwards; so with changes."""
    first = place.apply("--dry-run", "server")
    assert (first.code, place.live()) == (0, {})
    assert f"{OBJECTS} created" in first.out
    assert all(request.query["dryRun"] == "All" for request in place.asked() if request.method == "PATCH")
    place.apply()
    before = place.live()
    second = place.apply("--dry-run", "server", "--prune", ingestNodes=5, searchNodes=0)

    assert second.code == 0
    assert "1 changed" in second.out
    assert "pruned" in second.out
    assert place.live() == before


def test_wait_and_dry_run_exclude_each_other(place):
    """Waiting for what was never made is refused at once."""
    done = place.apply("--dry-run", "server", "--wait")

    assert done.code == 2
    assert "a dry run does not make" in done.err


# --- several clusters, and where they go ------------------------------------------------------------------------------


def test_several_clusters_are_applied_on_their_own(place):
    """One cluster that cannot be applied does not keep another from it; the report has both, in order."""
    lost = Place(place.server, "no-such-namespace", place.folder, name="lost")
    done = run("apply", "-f", lost.document(), "-f", place.document(), *place.flags())
    as_json = run("apply", "-f", lost.document(), "-f", place.document(), *place.flags(), "-o", "json")

    assert done.code == 5
    assert "namespace no-such-namespace does not exist\n  Create it: kubectl create namespace no-such" in done.err
    assert done.out.splitlines()[0].startswith(f"no-such-namespace/lost: 0 created, 0 changed, 0 unchanged, {OBJECTS}")
    assert f"{OBJECTS} created" in done.out
    assert [each["ok"] for each in as_json.json["clusters"]] == [False, True]
    assert [each["name"] for each in as_json.json["clusters"]] == ["lost", "c"]


def test_namespace_comes_from_flag_or_context(place, tmp_path):
    """A document that names no namespace goes where -n says, else where the context does; others stay."""
    anywhere = tmp_path / "anywhere.yaml"
    with_namespace = place.document()
    lines = Path(with_namespace).read_text().splitlines(keepends=True)
    anywhere.write_text("".join(line for line in lines if "namespace:" not in line))
    config = json.loads(place.server.kubeconfig.read_text())
    for context in config["contexts"]:
        context["context"]["namespace"] = place.namespace
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    dry = ("--dry-run", "client", "-o", "json")

    by_flag = run("apply", "-f", str(anywhere), *place.flags(), "-n", place.namespace, *dry)
    by_context = run("apply", "-f", str(anywhere), "--kubeconfig", str(kubeconfig), *dry)
    elsewhere = run("apply", "-f", with_namespace, *place.flags(), "-n", "elsewhere", *dry)

    assert by_flag.json["clusters"][0]["namespace"] == place.namespace
    assert by_context.json["clusters"][0]["namespace"] == place.namespace
    assert elsewhere.code == 2
    assert "--namespace says elsewhere" in " ".join(elsewhere.err.split())


def test_json_report_has_everything(place):
    """The JSON report of a conflict tells path, both values, owner, and what to do."""
    place.apply()
    place.edit("StatefulSet", "c-ingest", {"spec": {"replicas": 5}})
    done = place.apply("-o", "json")
    (cluster,) = done.json["clusters"]
    (conflict,) = (each for each in cluster["objects"] if each["outcome"] == "conflict")

    assert (done.code, done.err) == (4, "")
    assert cluster["counts"] == {"created": 0, "changed": 0, "unchanged": OBJECTS - 1, "conflict": 1}
    assert (cluster["ok"], cluster["dryRun"], cluster["interrupted"], cluster["error"]) == (False, "none", False, None)
    assert conflict["changes"] == [{"path": "spec.replicas", "old": 5, "new": 2, "owner": "kubectl-edit"}]
    assert conflict["owners"] == [
        {"path": ".spec.replicas", "manager": "kubectl-edit", "operation": "Update", "subresource": ""}
    ]
    assert "--force-conflicts" in conflict["hint"]


# --- waiting ----------------------------------------------------------------------------------------------------------

READY = {"observedGeneration": 99, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2, "availableReplicas": 2}


def test_wait_ends_when_everything_is_ready(place):
    """--wait returns 0 once workloads say so, and says how long it took."""
    place.apply()
    for kind, name, pods in (
        ("StatefulSet", "c-ingest", 2),
        ("StatefulSet", "c-controller", 1),
        ("Deployment", "c-search", 1),
    ):
        counts = {key: pods for key in READY if key != "observedGeneration"}
        status = {"status": {**counts, "observedGeneration": 99}}
        if kind == "StatefulSet":
            status["status"] |= {"currentRevision": "r", "updateRevision": "r"}
        answer = place.call("PATCH", kind, f"{name}/status", status, patch="merge")
        assert answer.code == 200, answer.body
    done = place.apply("--wait", "--timeout", "10s")

    assert (done.code, done.err) == (0, "")
    assert f"{place.namespace}/c: ready after 0." in done.out


def test_wait_that_takes_too_long_tells_what_is_missing(place):
    """When the time is up, each object that is not ready is named with its last reason: exit code 6."""
    done = place.apply("--wait", "--timeout", "1s")
    as_json = place.apply("--wait", "--timeout", "0.1s", "-o", "json")

    assert done.code == 6
    assert f"{OBJECTS} created" in done.out
    assert "not ready after 1 s" in done.err
    assert f"StatefulSet/{place.namespace}/c-ingest: its controller has not seen it yet" in done.err
    assert {each["name"] for each in as_json.json["clusters"][0]["unready"]} == {"c-controller", "c-ingest", "c-search"}


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


async def interrupted(place, *, slow, signals, enough, number=signal.SIGINT, command="apply"):
    """Run a command through a slow proxy, signal it, and return its exit code, what it said, and for how long."""
    faults = {"rate": 1.0, "faults": ("slow",)}
    async with FaultProxy(place.server.url, ca=place.server.ca, **faults) as proxy:
        kubeconfig = kubeconfig_for(proxy.url, place.folder, {"token": place.server.token})
        arguments = (command, "-f", place.document(), "--kubeconfig", kubeconfig, "-o", "json")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "chronik", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )
        proxy.slow = 0.05
        if not enough:  # which is while it reads
            proxy.slow = slow
            await asyncio.sleep(1.5)
        while len(proxy.seen) < enough and process.returncode is None:
            await asyncio.sleep(0.01)  # another process decides when
            if len(proxy.seen) >= LISTS:
                proxy.slow = slow
        await asyncio.sleep(0.3)
        began = time.monotonic()
        for _ in range(signals):
            assert process.returncode is None, await process.communicate()
            process.send_signal(number)
            await asyncio.sleep(0.2)
        out, err = await asyncio.wait_for(process.communicate(), 20)
        took = time.monotonic() - began
    return process.returncode, out.decode(), err.decode(), took


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_interrupted_apply_tells_the_truth(place, number, code):
    """After Ctrl-C the report has exactly what is on the server as created, and the rest as not tried."""
    returned, out, err, _ = await interrupted(place, slow=0.5, signals=1, enough=LISTS + 9, number=number)
    (cluster,) = json.loads(out)["clusters"]
    told = {each["name"] + each["kind"] for each in cluster["objects"] if each["outcome"] == "created"}
    untried = [each for each in cluster["objects"] if each["outcome"] == "not-tried"]

    assert returned == code
    assert cluster["interrupted"]
    assert told == {ref.name + ref.kind for ref in place.live()}
    assert told
    assert untried
    assert len(told) + len(untried) == OBJECTS
    assert err == "interrupted: finishing what is under way; Ctrl-C again ends at once\n"


async def test_second_interrupt_ends_at_once(place):
    """A second Ctrl-C does not wait for a server that does not answer."""
    code, out, err, took = await interrupted(place, slow=20, signals=2, enough=LISTS)

    assert code == 130
    assert out == ""
    assert err.endswith("\ninterrupted\n")
    assert "Traceback" not in err
    assert took < 15


@pytest.mark.parametrize("command", ["apply", "diff"])
async def test_interrupt_before_anything_was_sent(place, command):
    """As long as nothing is changed, the first Ctrl-C ends the command at once."""
    code, out, err, took = await interrupted(place, slow=20, signals=1, enough=0, command=command)

    assert code == 130
    assert "interrupted" in err
    assert '"outcome"' not in out
    assert took < 15, "it did not wait for the answer"
    assert place.live() == {}


# --- progress ---------------------------------------------------------------------------------------------------------


async def on_terminal(place, **env):
    """Apply through a slow proxy with stderr on a terminal, and return what it wrote there, and to stdout."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    async with FaultProxy(place.server.url, ca=place.server.ca, rate=1.0, faults=("slow",)) as proxy:
        proxy.slow = 0.3
        kubeconfig = kubeconfig_for(proxy.url, place.folder, {"token": place.server.token})
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "chronik", "apply", "-f", place.document(), "--kubeconfig", kubeconfig),
            stdout=asyncio.subprocess.PIPE,
            stderr=follower,
            env=environment(TERM="xterm", **env),
        )
        os.close(follower)
        told = asyncio.create_task(asyncio.to_thread(read_all, leader))
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        return (await told).decode(), out.decode()


def read_all(leader):
    """Return all that is written to a terminal until nobody has it open."""
    parts = []
    with suppress(OSError):  # how Linux says so
        while part := os.read(leader, 65536):
            parts.append(part)
    os.close(leader)
    return b"".join(parts)


@pytest.mark.parametrize("no_color", ["", "1"])
async def test_progress_is_for_terminals(place, no_color):
    """A terminal gets a line that says what is under way, cleared and with the cursor back at the end; files do not."""
    told, out = await on_terminal(place, NO_COLOR=no_color)

    assert "applying " in told
    assert f"/{OBJECTS}" in told
    assert told.rfind("\x1b[?25h") > told.rfind("\x1b[?25l") > -1
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]m", told)) is not bool(no_color)
    assert "\x1b" not in out
    assert f"{OBJECTS} created" in out


def stuck_pod(place, name, message):
    """Create a pod of the controllers that cannot start, and say that its workload waits for it."""
    labels = {"chronik.stream/cluster": place.name, "chronik.stream/component": "controller"}
    body = {"metadata": {"name": name, "labels": labels}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
    waiting = {"reason": "CreateContainerConfigError", "message": message}
    container = {"name": "a", "image": "b", "imageID": "", "ready": False, "restartCount": 0}
    status = {"containerStatuses": [container | {"state": {"waiting": waiting}}]}
    assert place.call("POST", "Pod", body=body).code == 201
    assert place.call("PATCH", "Pod", f"{name}/status", {"status": status}, patch="merge").code == 200
    workload = {"status": {"observedGeneration": 99, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 0}}
    assert place.call("PATCH", "StatefulSet", "c-controller/status", workload, patch="merge").code == 200


@pytest.mark.parametrize(("columns", "bar"), [(40, False), (60, False), (80, True)])
def test_wait_tells_the_whole_cause(place, columns, bar):
    """However narrow the terminal, the progress of a wait says all that it waits for, and no count of nothing."""
    place.apply()
    cause = 'secret "postgres-of-the-metastore" not found'
    stuck_pod(place, "c-controller-0", cause)
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-m", "chronik", "apply", "-f", place.document(), *place.flags()]
    env = environment(TERM="xterm", NO_COLOR="", COLUMNS="", LINES="")
    with subprocess.Popen(
        [*command, "--wait", "--timeout", "2s"], stdout=subprocess.DEVNULL, stderr=follower, env=env
    ) as process:
        os.close(follower)
        told = read_all(leader).decode()
    progress, error = ("".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", each).split()) for each in told.split("error:"))

    assert process.returncode == 6
    assert "".join(cause.split()) in progress
    assert "0/0" not in progress
    assert "/3" in progress
    assert bool(re.search("[━╸╺]", progress)) is bar
    assert "CreatetheSecretpostgres-of-the-metastoreinnamespace" in error


# --- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1h30m", 5400), ("90", 90), ("0", 0), ("0.5s", 0.5), ("2m30s", 150), ("500ms", 0.5)],
)
def test_durations(text, seconds):
    """Lengths of time are written as for kubectl."""
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "5x", "m", "-1s", "1s5m", "\u0661s", "1 m", "1h30", "nan", "9" * 400])
def test_durations_that_are_none(place, text):
    """Anything else is refused with an example, before anything is asked."""
    done = place.apply("--timeout", text)

    assert done.code == 2
    assert "write 30s, 5m or 1h30m" in done.err


def test_warnings_are_told_once(capsys):
    """A warning of the server is written once, with the first object that it was about, and nothing raw."""
    warn = Warnings()
    warn("Service/n/a", "deprecated \x1b[2J")
    warn("Service/n/b", "deprecated \x1b[2J")

    assert capsys.readouterr().err == "warning: Service/n/a: deprecated \\x1b[2J\n"


def test_an_archive_that_moves_or_ends_leaves_a_slot_that_is_told(place):
    """Without an operator nobody drops the slot on the old server: `apply` and `diff` say what does, and where."""
    metastore = {"database": "postgres", "connection": {"database": "d", "credentialsSecret": "pg"}}
    destination = {"s3": {"bucket": "bucket", "region": "eu-central-1", "credentialsSecret": "s3"}}
    backup = {"destination": destination, "metastore": {"image": "chronik/backup:1", "archive": {"enabled": True}}}

    def spec(host: str) -> dict:
        return {"backup": backup, "metastore": metastore | {"connection": metastore["connection"] | {"host": host}}}

    first = place.apply(**spec("db-1"))
    foretold, moved = place.diff(**spec("db-2")), place.apply("-o", "json", **spec("db-2"))
    again, ended = place.apply(**spec("db-2")), place.apply("--prune")

    assert [each.code for each in (first, moved, again, ended)] == [0, 0, 0, 0], (first.err, moved.err, ended.err)
    assert "slot" not in first.err + again.err
    for done in (foretold, moved):
        assert "goes on at db-2, and its replication slot chronik_c_" in done.err
        assert "on db-1: SELECT pg_drop_replication_slot('chronik_c_" in done.err
    (told,) = moved.json["clusters"][0]["warnings"]
    assert told in moved.err
    assert "the archive of the metastore ends" in ended.err
    assert "on db-2: SELECT pg_drop_replication_slot('chronik_c_" in ended.err


# --- cut off ----------------------------------------------------------------------------------------------------------


@pytest.mark.stand_in  # the orphans of a deleted StatefulSet are a controller's work
def test_a_cut_anywhere_while_volumes_grow_restarts_no_pod(place, monkeypatch):
    """An apply that loses the server at any of its writes is made good by the next one, and pods never notice."""
    scaled = {
        "autoscaling": {"ingestNodes": {"minReplicas": 2, "maxReplicas": 9, "targetCpuUtilizationPercentage": 70}}
    }
    assert place.apply(**scaled).code == 0
    place.edit("StatefulSet", "c-ingest", RESTART, manager="kubectl-rollout")
    place.edit("StatefulSet", "c-ingest", {"spec": {"replicas": 5}}, manager="kubectl-scale")
    claims_and_pods(place, 5)
    before = ingest(place)
    seen = []
    for most in range(12):
        larger = {"storage": {**SPEC["storage"], "size": f"{20 + most}Gi"}}
        with monkeypatch.context() as patch:
            lose_the_server(patch, most)
            cut = place.apply(**scaled, **larger)
        seen.append(ingest(place))
        done = place.apply(**scaled, **larger)
        seen.append(ingest(place))
        assert done.code == 0, done.err
        assert sizes(place, "c-ingest") == {f"{20 + most}Gi"}
        if cut.code == 0:
            break

    assert most > 5
    assert {each["metadata"]["uid"] for each in seen if each} > {before["metadata"]["uid"]}
    assert all(each["spec"]["template"] == before["spec"]["template"] for each in seen if each)
    assert {each["spec"]["replicas"] for each in seen if each} == {5}
    assert "annotations" not in seen[-1]["metadata"]


RESTART = {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-01"}}}}}


def lose_the_server(patch, most):
    """Let so many writes through, and have none arrive after that."""
    left = iter(range(most))

    def lossy(method):
        async def write(*arguments, **options):
            if next(left, None) is None:
                raise Unreachable("was lost", subject="the API server")
            return await method(*arguments, **options)

        return write

    for name in ("apply", "delete"):
        patch.setattr(ApiKube, name, lossy(getattr(ApiKube, name)))


def claims_and_pods(place, count):
    """Make what the controller of a StatefulSet makes."""
    live = ingest(place)
    labels = live["spec"]["template"]["metadata"]
    for number in range(count):
        claim = {
            "metadata": {"name": f"data-c-ingest-{number}", "labels": live["spec"]["selector"]["matchLabels"]},
            "spec": live["spec"]["volumeClaimTemplates"][0]["spec"],
        }
        pod = {
            "metadata": {**labels, "name": f"c-ingest-{number}"},
            "spec": {"containers": [{"name": "x", "image": "x"}]},
        }
        for kind, body in (("PersistentVolumeClaim", claim), ("Pod", pod)):
            answer = place.call("POST", kind, body=body)
            assert answer.code == 201, answer.body


def ingest(place):
    """Return the StatefulSet of the ingest nodes; None if there is none."""
    answer = place.call("GET", "StatefulSet", "c-ingest")
    return answer.body if answer.code == 200 else None


def sizes(place, name):
    """Return how large the volumes of a StatefulSet's new pods are."""
    templates = place.call("GET", "StatefulSet", name).body["spec"]["volumeClaimTemplates"]
    return {each["spec"]["resources"]["requests"]["storage"] for each in templates}
