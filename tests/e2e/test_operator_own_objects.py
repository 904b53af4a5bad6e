"""The operator and templates that add objects: kinds that come and go, and templates from a ConfigMap."""

from __future__ import annotations

import asyncio

import pytest
from support.operators import (
    CONFIG_MAP,
    Namespace,
    condition,
    controllers,
    eventually,
    in_phase,
    passes,
    quiet,
    running,
    small,
    with_condition,
)
from support.own_templates import folder, install, new_kind, texts

from chronik.errors import InputError
from chronik.kube import ConnectOptions
from chronik.manifest import CLUSTER, Kind
from chronik.operator.app import Options, run_once
from chronik.operator.cache import own
from chronik.operator.cache.cache import Selection
from chronik.operator.rendering.feed import TemplatesFrom

pytestmark = pytest.mark.stand_in  # many stories of one operator: some of them on both servers

CRON_JOB = Kind("batch/v1", "CronJob", "cronjobs", stage=-1)
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", stage=-1)


@pytest.fixture
def place(server, namespace) -> Namespace:
    """Return a fresh namespace."""
    return Namespace(server, namespace)


@pytest.fixture
def kind(server) -> Kind:
    """Return a kind that is installed."""
    kind = new_kind()
    install(server, kind)
    return kind


def size(place, kind, name="c-ingest"):
    """Return a question for the size of a gadget; None without it."""

    async def ask():
        found = await place.get(kind, name)
        return found and found["spec"]["size"]

    return ask


def of_size(place, kind, wanted):
    """Return the question whether the gadget has a size."""

    async def ask():
        return await size(place, kind)() == wanted

    return ask


async def started(place):
    """Create a small cluster and have it Running."""
    await place.secret("first")
    await place.create(small(place.name))
    return await in_phase(place, "c", "Running")


@pytest.mark.both
async def test_made_owned_repaired_and_quiet(place, kind, tmp_path, monkeypatch):
    """What templates add belongs to the cluster, is repaired when edited or deleted, and further passes are silent."""
    templates = folder(tmp_path / "t", texts(kind))
    with passes(monkeypatch) as ended:
        async with running(place.server, place.name, templates=templates), controllers(place):
            cluster = await started(place)
            made = await eventually(lambda: place.get(kind, "c-ingest"))
            (owner,) = made["metadata"]["ownerReferences"]
            assert (owner["uid"], owner["controller"]) == (cluster["metadata"]["uid"], True)
            assert made["metadata"]["labels"]["chronik.stream/component"] == "ingest"

            await place.edit(kind, "c-ingest", {"spec": {"size": "x"}})
            await eventually(of_size(place, kind, "one"))
            await place.delete(kind, "c-ingest")
            await eventually(of_size(place, kind, "one"))
            await place.edit(CONFIG_MAP, "c-extra", {"data": {"text": "x"}})

            async def mended():
                return (await place.get(CONFIG_MAP, "c-extra"))["data"] == {"text": "one"}

            await eventually(mended)
            await with_condition(place, "c", "OwnObjectsReady", "True", "AllObjectsReady")
            await quiet(ended)
            before = await place.written()
            await place.edit(CLUSTER, "c", {"metadata": {"annotations": {"looked": "again"}}})
            await quiet(ended, 0.6)
            assert await place.written() == before


async def test_pruned_with_the_template(place, kind, tmp_path):
    """An operator without a template prunes what it made once, the last of its kind too, and forgets the kind."""
    templates = folder(tmp_path / "t", texts(kind))
    async with running(place.server, place.name, templates=templates), controllers(place):
        await started(place)
        await eventually(lambda: place.get(kind, "c-ingest"))

    async def gone():
        found = [each for ref, each in (await place.objects()).items() if ref.kind == CONFIG_MAP.name]
        records = [each["metadata"].get("annotations") for each in found]
        return await place.get(kind, "c-ingest") is None and records == [None]

    async with running(place.server, place.name), controllers(place):
        await eventually(gone)
        found = await in_phase(place, "c", "Running")
    assert condition(found, "OwnObjectsReady") == {}


async def test_a_kind_that_is_installed_later(place, tmp_path, monkeypatch):
    """A kind that is missing is a condition and fails nothing; its objects come with it, without a restart."""
    monkeypatch.setattr(own, "LOOK_AGAIN", 0.3)
    kind = new_kind()
    templates = folder(tmp_path / "t", texts(kind))
    with passes(monkeypatch) as ended:
        async with running(place.server, place.name, templates=templates), controllers(place):
            await started(place)
            found = await with_condition(place, "c", "KindsInstalled", "False", "KindNotInstalled")
            assert "does not know the kind Gadget" in condition(found, "KindsInstalled")["message"]
            assert condition(found, "Ready")["status"] == condition(found, "Progressing")["status"] == "True"
            assert condition(found, "Reconciling")["status"] == "False"
            assert found["status"]["operatorVersion"]
            assert await place.get(CONFIG_MAP, "c-extra") is not None
            assert "KindNotInstalled" in await place.events()
            await quiet(ended)
            assert {outcome.result for _, outcome in ended} <= {"claimed", "ok", "waiting"}

            await asyncio.to_thread(install, place.server, kind)
            await eventually(of_size(place, kind, "one"))
            found = await with_condition(place, "c", "OwnObjectsReady", "True")
            assert condition(found, "KindsInstalled") == {}

            group = kind.api_version.partition("/")[0]
            path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind.plural}.{group}"
            await place.call("DELETE", path)
            await with_condition(place, "c", "KindsInstalled", "False", "KindNotInstalled")


async def test_unwell_objects_are_told(place, kind, tmp_path):
    """The conditions of a custom resource are told in one of the cluster, which is ready all the same."""
    templates = folder(tmp_path / "t", texts(kind))
    async with running(place.server, place.name, templates=templates), controllers(place):
        await started(place)
        await eventually(lambda: place.get(kind, "c-ingest"))
        stalled = {"type": "Stalled", "status": "True", "reason": "Broken", "message": "no such size"}
        path = place.path(kind, "c-ingest", "status")
        await place.call("PATCH", path, {"status": {"conditions": [stalled]}}, patch="merge")
        found = await with_condition(place, "c", "OwnObjectsReady", "False", "ObjectsNotReady")
    message = condition(found, "OwnObjectsReady")["message"]
    assert message == f"Gadget/{place.name}/c-ingest: Broken: no such size"
    assert condition(found, "Ready")["status"] == "True"


@pytest.mark.real  # the stand-in has neither CronJobs nor NetworkPolicies
async def test_built_in_kinds(real_server, tmp_path, monkeypatch):
    """A CronJob and a NetworkPolicy, to which the server adds defaults, are made, changed, and then left alone."""
    place = Namespace(real_server, real_server.new_namespace())
    job = """{# for: cluster #}
apiVersion: batch/v1
kind: CronJob
metadata: {{ part("metadata", name=cluster.name ~ "-backup") }}
spec:
  schedule: "0 3 * * *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: backup, image: {{ cluster.templateValues.image }}}]
"""
    policy = """{# for: component #}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{ part("metadata") }}
spec:
  podSelector: {matchLabels: {{ selector }}}
"""
    templates = folder(tmp_path / "t", {"backup.yaml.j2": job, "policy.yaml.j2": policy})
    with passes(monkeypatch) as ended:
        async with running(place.server, place.name, templates=templates), controllers(place):
            await place.secret("first")
            await place.create(small(place.name, templateValues={"image": "backup:1"}))
            await in_phase(place, "c", "Running")
            assert len(await place.list(NETWORK_POLICY)) == 2
            await place.change("c", templateValues={"image": "backup:2"})

            async def changed():
                (found,) = await place.list(CRON_JOB)
                return "backup:2" in str(found["spec"])

            await eventually(changed)
            await quiet(ended)
            before = await place.written()
            await place.edit(CLUSTER, "c", {"metadata": {"annotations": {"looked": "again"}}})
            await quiet(ended, 0.6)
            assert await place.written() == before


# --- templates from a ConfigMap ---------------------------------------------------------------------------------------


async def put(place, data, name="templates"):
    """Write the ConfigMap of templates, and nothing else into it."""
    path = place.path(CONFIG_MAP, name)
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
    await place.call("PATCH", path, manifest, fieldManager="people", force=True)


async def test_templates_from_a_configmap(place, kind):
    """A change of the ConfigMap rolls through; a broken one is told and changes nothing until it is mended."""
    source = TemplatesFrom(place.name, "templates")
    await put(place, texts(kind))
    async with running(place.server, place.name, templates_from=source), controllers(place):
        await started(place)
        await eventually(of_size(place, kind, "one"))
        await put(place, texts(kind, "two"))
        await eventually(of_size(place, kind, "two"))

        broken = texts(kind, "three") | {"parts__mine.yaml.j2": "{% if %}"}
        await put(place, broken)
        found = await with_condition(place, "c", "TemplatesUsable", "False", "TemplateError")
        message = condition(found, "TemplatesUsable")["message"]
        assert f"ConfigMap/{place.name}/templates/parts/mine.yaml.j2" in message
        assert message.endswith("The templates from before stay in use.")
        assert condition(found, "Ready")["status"] == "True"
        assert await size(place, kind)() == "two"

        wrong = texts(kind, "{{ cluster.templateValues.nope }}")
        await put(place, wrong)

        async def told():
            now = condition(await place.cluster("c"), "TemplatesUsable")
            return "there is no nope here" in now.get("message", "")

        await eventually(told)
        assert await size(place, kind)() == "two"
        assert "TemplateError" in await place.events()

        await put(place, texts(kind, "four"))
        await eventually(of_size(place, kind, "four"))

        async def forgotten():
            return condition(await place.cluster("c"), "TemplatesUsable") == {}

        await eventually(forgotten)
        await put(place, {"extra.yaml.j2": texts(kind)["extra.yaml.j2"]})
        await eventually(of_size(place, kind, None))
        await place.delete(CONFIG_MAP, "templates")
        found = await with_condition(place, "c", "TemplatesUsable", "False")
        assert "does not exist" in condition(found, "TemplatesUsable")["message"]


async def test_nothing_is_done_without_templates(place, kind):
    """Until the ConfigMap is there and good, an operator is not ready and touches no cluster."""
    source = TemplatesFrom(place.name, "templates")
    async with running(place.server, place.name, templates_from=source), controllers(place):
        await place.secret("first")
        await place.create(small(place.name))
        await asyncio.sleep(1)
        assert "status" not in await place.cluster("c")
        await put(place, texts(kind))
        await in_phase(place, "c", "Running")
        await eventually(of_size(place, kind, "one"))


async def test_one_pass_with_broken_templates(place):
    """`reconcile --once` with a ConfigMap that is not there, or is broken, says so and does nothing."""
    options = Options(
        connect=ConnectOptions(kubeconfig=str(place.server.kubeconfig)),
        selection=Selection(namespaces=(place.name,)),
        templates_from=TemplatesFrom(place.name, "templates"),
    )
    with pytest.raises(InputError, match="does not exist"):
        await run_once(options)
    await put(place, {"extra.yaml.j2": "a: b"})
    with pytest.raises(InputError, match="does not say for what it adds an object"):
        await run_once(options)
