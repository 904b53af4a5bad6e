from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.hostile import CHARACTERS, HOSTILE, LOOK_ALIKES, ORDINARY
from support.kubectl import kubectl_reads

from chronik.documents import writer
from chronik.documents.writer import content_digest, ordered, to_json_list, to_yaml, to_yaml_stream
from chronik.errors import InputError

LOADERS = [pytest.param(yaml.SafeLoader, id="python"), pytest.param(yaml.CSafeLoader, id="libyaml")]

texts = st.one_of(
    st.text(max_size=12),
    st.text(alphabet="-:#?!&*|>%@`'\"{}[],\\ \n\r\tay01.\x00\x85\u2028\ufeff", max_size=12),
    st.sampled_from(HOSTILE),
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), texts)
floats = st.floats(allow_nan=False, allow_infinity=False)
small_floats = st.floats(-1e15, 1e15)  # kubectl prints larger ones as whole numbers with other last digits


def trees_of(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return JSON trees with such leaves."""

    def branches(each: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(st.lists(each, max_size=4), st.dictionaries(texts, each, max_size=4))

    return st.recursive(leaves, branches, max_leaves=20)


trees = trees_of(scalars | floats)


def thing(spec: Any) -> dict[str, Any]:
    """Return an object of a kind that no tool knows, so that none has an opinion about its spec."""
    return {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "x"}, "spec": spec}


def read_by_kubectl(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest as kubectl reads it from our YAML."""
    found = kubectl_reads(to_yaml(manifest))
    del found["metadata"]["annotations"]  # the reader's own
    return found


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text(text, loader):
    """Any text comes back as itself, be it a value, an item or a key."""
    tree = {"value": text, "items": [text, [text]], text: {text: text}, "end": 1}

    assert yaml.load(to_yaml(tree), Loader=loader) == tree


def test_hostile_text_in_kubectl():
    """Kubectl reads every hostile text as itself, be it a value, an item or a key."""
    tree = thing({"items": list(HOSTILE), "keys": {text: text for text in HOSTILE}})

    assert read_by_kubectl(tree) == tree


@given(trees)
def test_any_tree(tree):
    """Any JSON tree comes back as itself, with its types."""
    written = to_yaml({"tree": tree})

    assert exact(yaml.load(written, Loader=yaml.CSafeLoader)) == exact({"tree": tree})


@settings(max_examples=examples(25))  # each starts a kubectl
@given(st.lists(trees_of(scalars | small_floats), min_size=1, max_size=8))
def test_any_tree_in_kubectl(several):
    """Kubectl reads any JSON trees as themselves."""
    assert read_by_kubectl(thing(several)) == thing(several)


def exact(tree: Any) -> str:
    """Return a text that tells 1 from 1.0 and true."""
    return json.dumps(tree, sort_keys=True)


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_look_alikes_are_quoted(text):
    """What some parser reads as another type stands in double quotes, be it a value or a key."""
    assert to_yaml({"key": text}) == f'key: "{text}"\n'
    assert to_yaml({text: [text]}) == f'"{text}":\n- "{text}"\n'


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_words_are_not_quoted(text):
    """What nobody could misread stands bare, be it a value or a key."""
    assert to_yaml({text: text}) == f"{text}: {text}\n"


@pytest.mark.parametrize(
    "text", [text for text in CHARACTERS if re.search(r"[\0-\x1f\x7f\x80-\x9f\u2028-\u2029\ufeff]", text)]
)
def test_control_characters_are_escaped(text):
    """What moves a terminal's cursor, ends a line or hides is never written raw."""
    assert to_yaml({"key": text}).isascii()


def test_several_lines_are_a_block():
    """Text of several lines reads as it is; where a block would lose something, it is quoted."""
    assert to_yaml({"a": "one\ntwo\n"}) == "a: |\n  one\n  two\n"
    assert to_yaml({"a": "one\n\n  two"}) == "a: |-\n  one\n\n    two\n"
    assert to_yaml({"a": "one \ntwo"}) == 'a: "one \\ntwo"\n'


def test_long_lines_stay_whole():
    """A long text stays on one line, so that a diff shows it once."""
    assert to_yaml({"a": "two words " * 1_000 + "end"}).count("\n") == 1
    assert to_yaml({"a": "é #" * 10_000}).count("\n") == 1


def test_unicode_is_readable():
    """Letters of any script are written as themselves."""
    assert to_yaml({"名前": "café"}) == "名前: café\n"


@pytest.mark.parametrize("write", [to_yaml, lambda manifest: to_json_list([manifest])], ids=["yaml", "json"])
@pytest.mark.parametrize("manifest", [{"a": "x\ud800y"}, {"\udfff": "a"}, {"a": ["\ud83d\ud83d"]}])
def test_lone_surrogates(write, manifest):
    """Half of a surrogate pair, which no file can hold, is refused and shown."""
    with pytest.raises(InputError, match=r"the text '.*\\ud.*' holds half of a surrogate pair"):
        write(manifest)


def test_key_order():
    """A manifest begins with apiVersion, kind, metadata and spec; the rest keeps its order."""
    manifest = {"zeta": 1, "spec": {"b": 1, "a": 2}, "alpha": 2, "metadata": {}, "kind": "K", "apiVersion": "v1"}

    assert list(ordered(manifest)) == ["apiVersion", "kind", "metadata", "spec", "zeta", "alpha"]
    assert to_yaml(manifest) == ("apiVersion: v1\nkind: K\nmetadata: {}\nspec:\n  b: 1\n  a: 2\nzeta: 1\nalpha: 2\n")


def test_no_anchors():
    """A value that stands in several places is written out each time."""
    shared = {"a": ["b"]}

    assert to_yaml({"one": shared, "two": shared}) == "one:\n  a:\n  - b\ntwo:\n  a:\n  - b\n"


@given(st.lists(st.dictionaries(texts, trees, max_size=3), max_size=4))
def test_stream(manifests):
    """A stream reads back as the same documents, whatever is in them."""
    assert list(yaml.load_all(to_yaml_stream(manifests), Loader=yaml.CSafeLoader)) == manifests


@given(st.lists(st.dictionaries(texts, trees, max_size=3), max_size=4))
def test_json_list(manifests):
    """JSON output is one List of the same documents."""
    assert json.loads(to_json_list(manifests)) == {"apiVersion": "v1", "kind": "List", "items": manifests}


def test_json_list_in_kubectl():
    """Kubectl takes the JSON output, hostile texts and all."""
    tree = thing({"items": list(HOSTILE)})

    found = kubectl_reads(to_json_list([tree]))

    assert found["spec"] == tree["spec"]


def test_pure_python_writes_the_same(monkeypatch):
    """Without libyaml the output is slower, and says the same."""
    tree = {
        "items": [text for text in HOSTILE if len(text) < 100],
        "map": {"a": [1, 1.5, None, True], "b": {}, "c": []},
    }

    monkeypatch.setattr(writer, "_EMITTER", yaml.SafeDumper)

    assert yaml.load(to_yaml(tree), Loader=yaml.SafeLoader) == tree


def test_digest():
    """Equal data have equal digests, whatever the order of keys; other data have others."""
    assert content_digest({"a": 1, "b": ["x"]}) == content_digest({"b": ["x"], "a": 1})
    assert (
        len(
            {content_digest(each) for each in ({"a": 1}, {"a": "1"}, {"a": True}, {"a": None}, {}, [], ["a"], "\ud800")}
        )
        == 8
    )


def test_digest_is_stable():
    """A digest is the same in every version: pods carry it, and another one would restart them all."""
    assert content_digest({"key": "wért"}) == "73cf1907ffb8d835cbd3f1f8ee375e71da5386a80e10f8a2ee9c85c573c7d216"


def test_examples_survive():
    """Every example document reads the same after it was written."""
    for path in sorted(Path(__file__).parents[2].joinpath("examples").glob("*.yaml")):
        document = yaml.safe_load(path.read_text("utf-8"))
        assert yaml.safe_load(to_yaml(document)) == document
