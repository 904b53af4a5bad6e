"""Where values of rendered objects come from: held to the text of the templates themselves."""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from chronik.offline import assets, loading
from chronik.problem import format_path
from chronik.render.origins import FieldPathError, Trace, at, by_name, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = sorted(Path("examples").glob("*.yaml"))

OBJECT = {
    "spec": {
        "ports": [
            {"name": "kafka", "containerPort": 9092, "protocol": "TCP"},
            {"name": "metrics", "containerPort": 8080, "protocol": "TCP"},
        ],
        "labels": {"a.b/c": "d"},
        "args": ["start", "--fast"],
    }
}


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of each plain value."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, (*path, key))
    elif isinstance(value, list):
        for place, part in enumerate(value):
            yield from leaves(part, (*path, place))
    else:
        yield path


def keys(path: tuple[str | int, ...]) -> list[str]:
    """Return the names in a path, without positions."""
    return [step for step in path if isinstance(step, str)]


@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_value_comes_from_the_line_that_is_named(example, every):
    """A line that binds nothing says the very value; any other has its key, or binds what it lies in."""
    clusters, _ = loading.load_clusters([str(example)])
    literal, numbers = 0, count(EXAMPLES.index(example))  # so that each example has others of the many alike
    for cluster in clusters:
        trace = Trace()
        for manifest in loading.renderer(None, trace)(cluster):
            made = trace.object(manifest)
            for path in leaves(made):
                if next(numbers) % every:  # each compiles its template
                    continue
                template, line = trace.origin(manifest, path)
                text = (assets.template_text(template) or "").splitlines()[(line or 0) - 1].strip()
                if "{{" in text or text == f"{path[-1]}: |":  # the lines of a block are its value
                    continue
                said = yaml.safe_load(text)
                agreeing = [each for each in leaves(said) if at(said, each) == at(made, path)]
                assert any(keys(path)[len(keys(path)) - len(keys(each)) :] == keys(each) for each in agreeing), (
                    f"{format_path(path)} of {manifest['kind']}: {template}:{line} {text}"
                )
                literal += 1
    assert literal > 80 / every / 2, "most lines of templates bind nothing"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("spec.ports[1].name", ("spec", "ports", 1, "name")),
        ("spec.ports[metrics].name", ("spec", "ports", 1, "name")),
        ('spec.ports[containerPort=8080,protocol="TCP"]', ("spec", "ports", 1)),
        ("spec.ports[containerPort=8080]", ("spec", "ports", 1)),
        ("spec.labels[a.b/c]", ("spec", "labels", "a.b/c")),
        ('.spec.labels["a.b/c"]', ("spec", "labels", "a.b/c")),
        ("spec.args[--fast]", ("spec", "args", 1)),
        ("spec", ("spec",)),
    ],
)
def test_fields_are_named_as_people_write_them(text, path):
    """Items of lists go by position, by name or by their keys, as `chronik diff` writes them too."""
    assert resolve(OBJECT, text) == path


@pytest.mark.parametrize(
    ("text", "message", "there"),
    [
        ("spec.port", "there is no port", ("ports", "labels", "args")),
        ("spec.ports[2]", "there is no [2]", ("kafka", "metrics")),
        ("spec.ports[http]", "there is no [http]", ("kafka", "metrics")),
        ("spec.args[0].name", "there is no name", ()),
        ("spec..ports", "..ports is no field", ()),
        ("spec[", "[ is no field", ()),
    ],
)
def test_paths_that_lead_nowhere(text, message, there):
    """A path that leads nowhere says where it ends, and what there is instead."""
    with pytest.raises(FieldPathError, match=re.escape(message)) as error:
        resolve(OBJECT, text)

    assert error.value.there == there


def test_items_are_known_by_name():
    """A path in words means the same item in a list that has others before it."""
    steps = by_name(OBJECT, ("spec", "ports", 1, "containerPort"))
    fewer = {"spec": {"ports": OBJECT["spec"]["ports"][1:]}}

    assert "".join(steps) == "spec.ports[metrics].containerPort"
    assert at(fewer, resolve(fewer, "".join(steps))) == 8080
