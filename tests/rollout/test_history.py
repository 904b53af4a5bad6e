"""Specs that are kept, and the way back to one."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronik.operator.staging.history import keep_spec
from chronik.rollout.history import kept_in_git, kept_spec, newest_first, spec_patch

METADATA = {"name": "c", "namespace": "n", "uid": "1", "generation": 3}
DOCUMENT = {"apiVersion": "chronik.stream/v1alpha1", "kind": "ChronikCluster", "metadata": METADATA, "spec": {"a": 1}}

VALUES = st.recursive(
    st.integers(0, 2) | st.text(max_size=1),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
SPECS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


def merged(now, patch):
    """Merge a patch as RFC 7386 says."""
    if not isinstance(patch, dict):
        return patch
    found = dict(now) if isinstance(now, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


@given(SPECS, SPECS)
def test_a_patch_brings_a_spec_back(now, then):
    """Whatever a spec is now, the patch makes the earlier one of it, and is empty if they are the same."""
    patch = spec_patch(now, then)
    assert merged(now, patch) == then
    assert (patch == {}) == (now == then)


def test_a_spec_is_kept_once():
    """The name is the spec's digest, so the same spec of another generation is the same object with a newer number."""
    first = kept_spec(DOCUMENT)
    again = kept_spec(DOCUMENT | {"metadata": METADATA | {"generation": 9}})
    assert first["metadata"] == again["metadata"]
    assert (first["revision"], again["revision"]) == (3, 9)
    other = kept_spec(DOCUMENT | {"metadata": METADATA | {"uid": "2", "generation": 12}, "spec": {"a": 2}})
    assert newest_first([first, other, again], "1") == [again, first]


class Kept:
    """A server that keeps specs, by name."""

    def __init__(self):
        self.specs = {}

    async def apply(self, manifest, **_):
        """Keep one."""
        name = manifest["metadata"]["name"]
        self.specs[name] = manifest | {"metadata": {"uid": "1", **manifest["metadata"]}}

    async def list(self, *_, **__):
        """Return those that are kept."""
        return SimpleNamespace(items=[*self.specs.values()])

    async def delete(self, _kind, ref, **_):
        """Let go of one."""
        del self.specs[ref.name]


@pytest.mark.parametrize(("most", "left"), [(0, []), (2, [6, 5]), (50, [6, 5, 4, 3, 2, 1])])
async def test_as_many_are_kept_as_the_document_says(most, left):
    """The newest specs are kept, as many as spec.rollout.history says; with 0 what was kept before goes."""
    kube = Kept()
    for number in range(1, 7):
        document = DOCUMENT | {"metadata": METADATA | {"generation": number}, "spec": {"a": number}}
        await kube.apply(kept_spec(document))
    await keep_spec(document, most, SimpleNamespace(kube=kube))
    assert [each["revision"] for each in newest_first(kube.specs.values(), "1")] == left


FIELDS = {"f:spec": {"f:image": {}}}
OWNERS = {
    "people": ({"managedFields": [{"manager": "kubectl", "fieldsV1": FIELDS}]}, ""),
    "argo": ({"managedFields": [{"manager": "argocd-controller", "fieldsV1": FIELDS}]}, "Argo CD"),
    "argo status": ({"managedFields": [{"manager": "argocd-controller", "fieldsV1": {"f:metadata": {}}}]}, ""),
    "argo tracking": ({"annotations": {"argocd.argoproj.io/tracking-id": "x"}}, "Argo CD"),
    "flux": ({"managedFields": [{"manager": "kustomize-controller", "fieldsV1": FIELDS}]}, "Flux"),
    "flux label": ({"labels": {"kustomize.toolkit.fluxcd.io/name": "x"}}, "Flux"),
}


@pytest.mark.parametrize("name", OWNERS)
def test_who_brings_a_spec(name):
    """Argo CD and Flux are known by the fields that they own, or by the mark that they leave."""
    more, owner = OWNERS[name]
    assert kept_in_git(json.loads(json.dumps(DOCUMENT | {"metadata": METADATA | more}))) == owner
