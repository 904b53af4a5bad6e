"""What only a real kube-apiserver can answer about `Kube`: access control, its memory, how it reads JSON."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.kube_clients import config_map, kubeconfig_for, options_for

from chronik import errors
from chronik.kube import ConnectOptions, client, connect
from chronik.manifest import KIND_BY_NAME, Kind, ObjectRef

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONFIG_MAP = KIND_BY_NAME["ConfigMap"]
WEBHOOKS = Kind(
    "admissionregistration.k8s.io/v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    stage=-1,
    namespaced=False,
)
DEFINITIONS = Kind(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", stage=-1, namespaced=False
)

pytestmark = pytest.mark.real


@pytest.fixture
async def real(real_server):
    """Give admin's access to a real server."""
    async with connect(options_for(real_server)) as access:
        yield access


@pytest.fixture
def place(real_server) -> str:
    """Return the name of a fresh namespace on the real server."""
    return real_server.new_namespace()


async def test_every_character_arrives(real, place):
    """Whatever a string holds is what the server stores, though it reads our JSON as YAML."""
    text = "".join(map(chr, (9, 10, 13, *range(32, 0xD800), *range(0xE000, 0x10000), 0x1F600, 0x10FFFF)))

    assert (await real.apply(config_map(place, text=text)))["data"]["text"] == text


def test_default_namespace(real):
    """A context that names no namespace means default."""
    assert real.namespace == "default"


async def test_list_is_paged(real, real_server, place, monkeypatch):
    """A long list is read in pages of one version."""
    monkeypatch.setattr(client, "PAGE_SIZE", 2)
    for name in "abcde":
        await real.apply(config_map(place, name))

    listed = await real.list(CONFIG_MAP, place)

    assert [item["metadata"]["name"] for item in listed.items] == list("abcde")
    lists = [request.query for request in real_server.requests_of(place) if request.verb == "list"]
    assert [query["limit"] for query in lists] == ["2", "2", "2"]
    assert ["continue" in query for query in lists] == [False, True, True]


async def test_watch_ends_by_itself(real, place, monkeypatch):
    """The server ends a watch after the time it was given, and that is no error."""
    monkeypatch.setattr(client, "WATCH_SECONDS", 1)
    listed = await real.list(CONFIG_MAP, place)

    changes = [change async for change in real.watch(CONFIG_MAP, place, resource_version=listed.resource_version)]

    assert changes == []


@pytest.fixture
async def gadget(real, real_server, place) -> AsyncIterator[Kind]:
    """Install a kind that no other test has, and return it once the server serves and describes it."""
    kind = Kind(f"{place}.example.com/v1", "Gadget", "gadgets", stage=-1)
    names = {"plural": kind.plural, "singular": "gadget", "kind": kind.name}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definition = {
        "apiVersion": DEFINITIONS.api_version,
        "kind": DEFINITIONS.name,
        "metadata": {"name": f"{kind.plural}.{place}.example.com"},
        "spec": {
            "group": f"{place}.example.com",
            "names": names,
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    live = await real.apply(definition)
    for _ in range(300):  # the server tells nobody since when it does
        paths = (f"/apis/{kind.api_version}", f"/apis/{kind.api_version}/{kind.plural}")
        if {real_server.call("GET", path).code for path in paths} == {200}:
            break
        await asyncio.sleep(0.1)
    yield kind
    await real.delete(DEFINITIONS, ObjectRef.of(live), uid=live["metadata"]["uid"])


async def test_watch_from_a_forgotten_version(real, gadget):
    """A watch from before the server's memory is told to list again."""
    with pytest.raises(errors.WatchExpired):
        async for _ in real.watch(gadget, None, resource_version="1"):
            pass


async def test_kind_of_a_template_override(real, gadget, place):
    """A kind that chronik has never heard of is found by asking the server."""
    await real.apply(
        {"apiVersion": gadget.api_version, "kind": gadget.name, "metadata": {"name": "a", "namespace": place}}
    )

    assert (await real.get(gadget, place, "a"))["metadata"]["name"] == "a"


async def test_version_and_uid_of_an_object_that_is_gone(real, place):
    """A uid in the manifest keeps an apply from making a new object; a resourceVersion alone does not."""
    manifest = config_map(place)
    manifest["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(errors.ObjectChanged):
        await real.apply(manifest)

    manifest["metadata"] = {"name": "a", "namespace": place, "resourceVersion": "1"}
    assert (await real.apply(manifest))["metadata"]["uid"]
    with pytest.raises(errors.ObjectChanged, match="has been modified"):
        await real.apply(manifest)


@pytest.mark.parametrize("verb", ["get", "list", "watch", "patch", "delete"])
async def test_forbidden_says_who_may_not_do_what(real_server, place, verb):
    """Access control's no names user, verb, resource and namespace, and how to check."""
    ref = ObjectRef("ConfigMap", place, "a")
    async with connect(options_for(real_server, "alice")) as alice:
        send = {
            "get": lambda: alice.get(CONFIG_MAP, place, "a"),
            "list": lambda: alice.list(CONFIG_MAP, place),
            "watch": lambda: anext(alice.watch(CONFIG_MAP, place, resource_version="1")),
            "patch": lambda: alice.apply(config_map(place)),
            "delete": lambda: alice.delete(CONFIG_MAP, ref),
        }[verb]
        with pytest.raises(errors.Forbidden) as caught:
            await send()

    assert f"alice may not {verb} configmaps in namespace {place}" in str(caught.value)
    assert f"kubectl auth can-i {verb} configmaps -n {place} --as alice" in caught.value.hint


@pytest.mark.parametrize(
    ("user", "error", "text"),
    [
        ({"token": "expired"}, errors.Unauthorized, "does not accept the credentials of kubeconfig"),
        ({}, errors.Forbidden, "No credentials reached the server"),
    ],
)
async def test_credentials_that_are_no_good(real_server, tmp_path, user, error, text):
    """An unknown token and no token at all are told apart."""
    kubeconfig = kubeconfig_for(real_server.url, tmp_path, user, **{"certificate-authority": str(real_server.ca)})
    async with connect(ConnectOptions(kubeconfig=kubeconfig)) as kube:
        with pytest.raises(error, match=text):
            await kube.get(CONFIG_MAP, "default", "a")


async def test_namespace_that_is_being_deleted(real, real_server, place):
    """Nothing can be created in a namespace that is going; that passes, so it is not called invalid."""
    real_server.call("DELETE", f"/api/v1/namespaces/{place}")

    with pytest.raises(errors.NamespaceTerminating, match=f"namespace {place} is being deleted"):
        await real.apply(config_map(place))


async def test_webhook_that_does_not_answer(real, place):
    """A webhook that nobody answers for is waited for a while, and then named."""
    webhook = {
        "name": "gate.example.com",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {"url": "https://127.0.0.1:9/gate"},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}],
    }
    live = await real.apply(
        {
            "apiVersion": WEBHOOKS.api_version,
            "kind": WEBHOOKS.name,
            "metadata": {"name": f"gate-{place}"},
            "webhooks": [webhook],
        }
    )

    with pytest.raises(errors.WebhookUnavailable, match=r'"gate.example.com".*after 8 attempts') as caught:
        await apply_for_a_while(real, config_map(place))
    await real.delete(WEBHOOKS, ObjectRef.of(live))

    assert "kubectl get validatingwebhookconfigurations" in caught.value.hint


async def apply_for_a_while(kube, manifest: dict) -> None:
    """Apply again and again: the server tells nobody since when it asks a webhook."""
    for _ in range(100):
        await kube.apply(manifest)
        await asyncio.sleep(0.1)
