"""Templates that add objects: what they have to say of themselves, and what becomes of what they make."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.clusters import small_cluster

from chronik.errors import TemplateError
from chronik.manifest import KindName
from chronik.offline import loading
from chronik.offline.template_sets import configmap_data, configmap_templates, template_set
from chronik.render.own import CLUSTER_SCOPED_KINDS, own_template, resource_of

HEAD = "{# for: cluster #}\napiVersion: v1\nkind: ConfigMap\n"
POD = """{# for: component #}
apiVersion: apps/v1
kind: Deployment
metadata: {{ part("metadata", name=name ~ "-ui") }}
spec:
  selector: {matchLabels: {{ selector }}}
  template:
    metadata: {labels: {{ labels }}}
    spec: {containers: [{name: a, image: b}]}
"""


def made(text, cluster=None):
    """Return what a template adds to a cluster."""
    found = configmap_templates({"mine.yaml.j2": text}, "ConfigMap/ns/t")
    cluster = cluster or small_cluster()
    plain = loading.renderer()(cluster)
    names = [(each["kind"], each["metadata"]["name"]) for each in plain]
    rendered = loading.renderer_of(found)(cluster)
    return [each for each in rendered if (each["kind"], each["metadata"]["name"]) not in names]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("a: b\n", "its first line does not say for what it adds", "{# for: cluster #} or {# for: component #}"),
        ("", "its first line does not say for what it adds", "{# for: cluster #}"),
        ("{# for: ingest #}\n", "not for 'ingest'", '{% if component.name == "ingest" %} below it'),
        ("{# for: all #}\n", "not for 'all'", "Write {# for: cluster #} or"),
        ("{# for cluster #}\n", "does not say for what this adds an object: {# for cluster #}", "nothing else"),
        ("{# for: cluster #}\nkind: ConfigMap\n", "apiVersion has to be plain text", "`apiVersion: monitoring"),
        ('{# for: cluster #}\napiVersion: v1\nkind: {{ "A" }}\n', "kind has to be plain", "without {{ }}"),
        (HEAD + "kind: Role\n", "says ConfigMap and Role for kind", "Write one line"),
        ("{# for: cluster #}\napiVersion: v1\nkind: Secret\n", "keeps no object of kind Secret", "ExternalSecret"),
        ("{# for: cluster #}\napiVersion: v1\nkind: Pod\n", "keeps no object of kind Pod", "Deployment"),
        ("{# for: cluster #}\napiVersion: v1\nkind: PersistentVolumeClaim\n", "keeps no object", "never deletes"),
        ("{# for: cluster #}\napiVersion: v1\nkind: Event\n", "keeps no object of kind Event", "of its own"),
        ("{# for: cluster #}\napiVersion: v1\nkind: Namespace\n", "lies in no namespace", "beside the clusters"),
        (
            "{# for: cluster #}\napiVersion: serving.knative.dev/v1\nkind: Service\n",
            "cannot be told from",
            "kind and name",
        ),
        ("{# for: cluster #}\napiVersion: autoscaling/v1\nkind: HorizontalPodAutoscaler\n", "of autoscaling/v2", ""),
    ],
)
def test_what_a_template_has_to_say(text, message, hint):
    """A template that does not say what it adds, or adds what chronik cannot keep, is told what to write."""
    with pytest.raises(TemplateError) as caught:
        own_template("mine.yaml.j2", text)

    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "data: {a: b}\n", "makes no metadata.name"),
        (HEAD + "metadata: {name: a, namespace: b}\n", "into another namespace than that of its cluster"),
        (HEAD + 'metadata: {{ part("metadata") }}\ndta: {}\n', "dta is no field that Kubernetes knows"),
        (
            HEAD.replace("ConfigMap", "Service") + 'metadata: {{ part("metadata", name=name ~ "-ingest") }}\n',
            "is made a second time",
        ),
        (HEAD + "metadata: {name: {{ component.name }}}\n", "component is not defined"),
        (POD, "have the labels of component controller"),
    ],
)
def test_what_a_template_may_not_make(text, message):
    """What an added object may not be is an error that names template and line."""
    with pytest.raises(TemplateError) as caught:
        made(text)

    assert message in caught.value.message
    assert caught.value.template == "mine.yaml.j2"
    assert caught.value.location is not None
    assert caught.value.location.file == "ConfigMap/ns/t/mine.yaml.j2"


def test_an_object_is_made_part_of_the_cluster():
    """A bare name is enough: namespace, labels and owner are the cluster's, and labels of its own stay."""
    cluster = replace(small_cluster(), uid="123")
    (found,) = made(HEAD + "metadata: {name: mine, labels: {a: b, chronik.stream/cluster: x}}\n", cluster)
    (same,) = made(HEAD + 'metadata: {{ part("metadata", name="mine") }}\n', cluster)

    assert found["metadata"]["labels"].pop("a") == "b"
    assert found == same
    assert found["metadata"]["labels"]["chronik.stream/cluster"] == cluster.name
    assert found["metadata"]["ownerReferences"][0]["uid"] == "123"


def test_for_each_component_and_for_none():
    """A template for components makes an object of each; one that prints nothing adds nothing."""
    head = "{# for: component #}\n{% if component.name != 'search' %}\napiVersion: v1\nkind: ConfigMap\n"
    found = made(head + 'metadata: {{ part("metadata", name=name ~ "-x") }}\n{% endif %}\n')

    assert [each["metadata"]["labels"]["chronik.stream/component"] for each in found] == ["controller", "ingest"]


def test_without_templates_of_that_kind_nothing_differs():
    """A cluster without such templates has no record of kinds, and the same objects as ever."""
    cluster = small_cluster()
    part = configmap_templates({"parts__mine.yaml.j2": "a: b\n"}, "t")

    assert loading.renderer_of(part)(cluster) == loading.renderer()(cluster)


def test_two_apis_for_one_kind():
    """Two templates that take a kind of one name from two APIs are refused: objects could not be told apart."""
    gadget = "{{# for: cluster #}}\napiVersion: {}/v1\nkind: Gadget\n"

    with pytest.raises(TemplateError, match=r"Gadget is of b/v1 here, and of a/v1 in a\.yaml\.j2"):
        configmap_templates({"a.yaml.j2": gadget.format("a"), "b.yaml.j2": gadget.format("b")}, "t")


def test_a_configmap_holds_what_a_folder_does(tmp_path):
    """The keys of a ConfigMap stand for the files of a folder, parts included, there and back."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "mine.yaml.j2").write_text("a: b\n")
    (tmp_path / "extra.yaml.j2").write_text(HEAD + "metadata: {name: x}\n")
    data = configmap_data(template_set(str(tmp_path)))
    again = configmap_templates(data, "t")

    assert data.keys() == {"parts__mine.yaml.j2", "extra.yaml.j2"}
    assert again.names == {"parts/mine.yaml.j2", "extra.yaml.j2"}
    assert again.read("parts/mine.yaml.j2") == "a: b\n"
    assert [each.kind for each in again.own] == [KindName("v1", "ConfigMap")]


def test_how_a_kind_is_spelt_in_urls():
    """The first line can say it where the rule is wrong."""
    text = "{# for: cluster, resource: gadgetz #}\napiVersion: example.com/v1\nkind: Gadget\n"

    assert own_template("a.yaml.j2", text).resource == "gadgetz"
    assert [resource_of(kind) for kind in ("Gateway", "Ingress", "Proxy", "ServiceMonitor", "Mesh")] == [
        *("gateways", "ingresses", "proxies", "servicemonitors", "meshes")
    ]


@pytest.mark.real
def test_kinds_are_as_a_server_has_them(real_server):
    """Of every kind of a real server it is known how URLs spell it, and whether it lies in a namespace."""
    groups = real_server.call("GET", "/apis").body["groups"]
    seen = set()
    for version in ("/api/v1", *(f"/apis/{each['preferredVersion']['groupVersion']}" for each in groups)):
        answer = real_server.call("GET", version)
        if "example.com" in version or answer.code != 200:  # of other tests, or on its way out
            continue
        for each in answer.body["resources"]:
            if "/" not in each["name"]:
                seen.add(each["kind"])
                assert resource_of(each["kind"]) == each["name"]
                assert (each["kind"] in CLUSTER_SCOPED_KINDS) == (not each["namespaced"]), each["kind"]
    assert seen >= {"CronJob", "NetworkPolicy", "Ingress", "Endpoints", "ClusterRole", "Namespace"}
