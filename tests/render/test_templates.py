from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import FileSystemBytecodeCache
from support.hostile import HOSTILE

from chronik.errors import TemplateError
from chronik.render.skeleton import OMIT
from chronik.render.templates import Templates

# Where a value can stand, and what the tree must be with it there.
POSITIONS = {
    "plain": ("a: {{ v }}\nz: end\n", lambda v: {"a": v, "z": "end"}),
    "embedded": ("a: pre-{{ v }}-post\nz: end\n", lambda v: {"a": f"pre-{v}-post", "z": "end"}),
    "double-quoted": ('a: "{{ v }}!"\nz: end\n', lambda v: {"a": f"{v}!", "z": "end"}),
    "single-quoted": ("a: '{{ v }}'\nz: end\n", lambda v: {"a": v, "z": "end"}),
    "block": ("a: |\n  one\n  {{ v }}\n  two\nz: end\n", lambda v: {"a": f"one\n{v}\ntwo\n", "z": "end"}),
    "flow": ("a: [x, {{ v }}, w]\nz: end\n", lambda v: {"a": ["x", v, "w"], "z": "end"}),
    "key": ("{{ v }}: x\nthe end: z\n", lambda v: {v: "x", "the end": "z"}),
    "embedded in flow": ("a: {b: x{{ v }}y, c: d}\nz: end\n", lambda v: {"a": {"b": f"x{v}y", "c": "d"}, "z": "end"}),
    "comment": ("a: x  # {{ v }}\nz: end\n", lambda _: {"a": "x", "z": "end"}),
    "part": ('a: {{ part("p") }}\nz: end\n', lambda v: {"a": {"b": [v]}, "z": "end"}),
    "loop": ("{% for _ in [1, 2] %}\n- {{ v }}\n{% endfor %}\n", lambda v: [v, v]),
    "map": ('a: {{ merged({"k": v}, {"l": [v]}) }}\n', lambda v: {"a": {"k": v, "l": [v]}}),
    "expression": ('a: {{ v ~ ":" ~ v }}\n', lambda v: {"a": f"{v}:{v}"}),
}


def templates(main: str, **parts: str) -> Templates:
    """Return a set of templates: `main`, and parts by name."""
    files = {"main": main, **{f"parts/{name}.yaml.j2": text for name, text in parts.items()}}
    return Templates(files.get)


def render(main: str, /, parts: dict[str, str] | None = None, **variables: Any) -> Any:
    """Render one template to data."""
    return templates(main, **(parts or {})).render("main", variables)


ALL_POSITIONS = Templates(
    {**{name: text for name, (text, _) in POSITIONS.items()}, "parts/p.yaml.j2": "b: [{{ v }}]"}.get
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text(text):
    """Any text arrives as itself, wherever it stands, and changes nothing around it."""
    made = {position: ALL_POSITIONS.render(position, {"v": text}) for position in POSITIONS}

    assert made == {position: expected(text) for position, (_, expected) in POSITIONS.items()}


@given(st.sampled_from(sorted(POSITIONS)), st.text() | st.text(alphabet="Zq0123Z{}%: \n-'\""))
def test_any_text(position, text):
    """So does text that nobody thought of."""
    assert ALL_POSITIONS.render(position, {"v": text}) == POSITIONS[position][1](text)


@pytest.mark.parametrize("value", [0, -1, 2**70, True, False, 1.5, "", "x", {}, [], {"a": [1, {"b": "c"}]}, [[[]]]])
def test_types_survive(value):
    """A value that stands alone keeps its type."""
    found = render("a: {{ v }}\nb: [{{ v }}]\nc: {d: {{ v }}}", v=value)

    assert found == {"a": value, "b": [value], "c": {"d": value}}
    assert repr(found["a"]) == repr(value)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("none | optional", None),
        ("{} | optional", None),
        ("[] | optional", None),
        ('part("empty") | optional', None),
        ("0 | optional", 0),
        ("false | optional", False),
        ('"" | optional', ""),
        ("[0] | optional", [0]),
        ('given(a=1, b=none, c="") | optional', {"a": 1, "c": ""}),
        ("given(a=none) | optional", None),
        ('merged({"a": 1, "b": 1}, {"b": 2})', {"a": 1, "b": 2}),
        ("merged()", {}),
        ('"1024Mi" | quantity', "1Gi"),
        ("2 | quantity", "2"),
        ("none | quantity | optional", None),
        ("[3, 1, 2] | sort", [1, 2, 3]),
        ('["a", "b"] | join("-")', "a-b"),
        ('[{"n": 1}, {"n": 2}] | map(attribute="n") | list', [1, 2]),
        ("1 + 2 * 3", 7),
        ('"a" if true else "b"', "a"),
    ],
)
def test_expressions(expression, value):
    """Filters and functions do what they say; `optional` drops the key of what is null or empty, and nothing else."""
    found = render(f"before: 1\na: {{{{ {expression} }}}}\nafter: 2", {"empty": "{# nothing #}"})

    assert found == ({"before": 1, "after": 2} if value is None else {"before": 1, "a": value, "after": 2})


@dataclass(frozen=True)
class Thing:
    """An object as templates see them."""

    name: str = "x"
    port: int = 1


@pytest.mark.parametrize(
    ("template", "line", "message"),
    [
        ("a: 1\nb: {{ nope }}", 2, "nope is not defined"),
        ("a: 1\nb: {{ spec.storag }}", 2, "there is no storag here: did you mean storage?"),
        ("b: {{ spec.zzz }}", 1, "there is no zzz here: there are storage, tls"),
        ("b: {{ spec.storage.size.unit }}", 1, "str object has no unit"),
        ("b: {{ thing.nam }}", 1, "there is no nam here: did you mean name?"),
        ("{% if spec.nope %}\na: 1\n{% endif %}", 1, "there is no nope here"),
        ("a: 1\n\n{% for x in spec.nope %}\n- {{ x }}\n{% endfor %}", 3, "there is no nope here"),
        ("a: {{ spec.nope | optional }}", 1, "there is no nope here"),
        ("a: {{ spec.nope | quantity }}", 1, "there is no nope here"),
        ('a: {{ {"x": [spec.nope]} }}', 1, "there is no nope here"),
        ("a: {{ merged(spec.nope) }}", 1, "there is no nope here"),
        ("a: {{ given(b=spec.nope) }}", 1, "there is no nope here"),
        ("a: 1\nb: {{ 'x' if false }}", 2, "an if inside an expression needs its else"),
        ("a: 1\nb: x{{ 'y' ~ (1 if true) }}", 2, "an if inside an expression needs its else"),
        (
            "a: 1\nb: {{ spec.tls }}",
            2,
            "the value is null: guard it with {% if %}, or add `| optional` to drop the key",
        ),
        ("a: 1\nb: x-{{ spec.tls }}", 2, "text needs a string or a number here, and the value is null"),
        ("a: 1\nb: '{{ spec.storage }}'", 2, "text needs a string or a number here, and the value is a dict"),
        ("a: 1\n{{ spec.storage }}: 1", 2, "text needs a string or a number here, and the value is a dict"),
        ("a: 1\nb: x{{ none | optional }}", 2, "text needs a string or a number here, and the value is omitted"),
        ('a: {{ {"b": none} }}', 1, "a null inside a map or list: leave such values out, with given()"),
        ('a: {{ [{"b": none | optional}] }}', 1, "a null inside a map or list"),
        ("a: {{ {1: 2} }}", 1, "the key 1 of a map is not a string"),
        ("a: {{ (1, 2) }}", 1, "tuple object is no value of JSON"),
        ("a: {{ [1, 2] | map('string') }}", 1, "generator object is no value of JSON; end the filters with `| list`"),
        ("a: {{ thing }}", 1, "Thing object is no value of JSON"),
        ("a: {{ spec.items }}", 1, "builtin_function_or_method object is no value of JSON"),
        ("a: {{ spec.items() }}", 1, "dict_items object is no value of JSON"),
        ("a: {{ self }}", 1, "TemplateReference object is no value of JSON"),
        ("{% for x in [1] %}\na: {{ loop }}\n{% endfor %}", 2, "LoopContext object is no value of JSON"),
        ("a: {{ part }}", 1, "method object is no value of JSON"),
        ("a: {{ nan }}", 1, "nan is no value of JSON"),
        ("a: {{ [-infinity] }}", 1, "-inf is no value of JSON"),
        ("a: {{ data }}", 1, "bytes object is no value of JSON"),
        ("a: 1\nb: {{ surrogate }}", 2, r"the text 'a\ud800' holds half of a surrogate pair, which UTF-8 cannot write"),
        ("a: {{ {surrogate: 1} }}", 1, r"the text 'a\ud800' holds half of a surrogate pair"),
        ('a: {{ "1 GB" | quantity }}', 1, "'1 GB' is not a quantity such as 500m, 2, 1.5Gi or 10G"),
        ("a: {{ 1 / 0 }}", 1, "this divides by zero"),
        ("a: 1\nb: {{ 'x' | nope }}", 2, "there is no filter nope"),
        ("a: 1\nb: {{ x", 2, "`{{` is not closed"),
        ("a: 1\n{% if x %}\nb: 2", 3, "{% if %} is not closed"),
        ("a: 1\n{% nope %}", 2, "there is no statement {% nope %}"),
        ('a: 1\nb: {{ part("nope") }}', 2, "there is no part nope: it would be the file parts/nope.yaml.j2"),
        ('a: {{ part("../main") }}', 1, "there is no part ../main"),
        ('a: {{ part("/etc/passwd") }}', 1, "there is no part /etc/passwd"),
        ('a: {{ part("") }}', 1, "there is no part"),
        ("a: 1\na: 2", 2, "the key a stands here a second time"),
        ("a: &x 1", 1, "anchors and aliases are not allowed"),
        ("a: !!binary {{ spec.storage.size }}", 1, "tags are not allowed"),
        ("a: 1\nb: on", 2, "YAML parsers disagree about an unquoted on: quote it"),
        ("a: 1\n---\nb: 1", 2, "a template makes one document, and a second one starts here"),
        ("a: 1\nb:", 2, "nothing stands here: write {} or [], or leave the key out"),
        ("a: 1\nb: {{ spec.storage.size }}: 2", 2, "not YAML: "),
        ("a: 1\n  b: 2", 2, "not YAML: "),
        ("a: 1\nb: \x07", 2, "YAML cannot hold a control character"),
        ("a: 1\nb: [1\n", 2, "not YAML: "),
    ],
)
def test_errors(template, line, message):
    """An error says what is wrong, what is allowed, and in which template and line."""
    variables = {
        "spec": {"storage": {"size": "1Gi"}, "tls": None},
        "thing": Thing(),
        "nan": float("nan"),
        "infinity": float("inf"),
        "data": b"x",
        "surrogate": "a\ud800",
    }
    with pytest.raises(TemplateError) as caught:
        render(template, **variables)

    assert message in caught.value.message
    assert (caught.value.template, caught.value.line) == ("main", line)
    assert str(caught.value).startswith(f"main:{line}: ")


FORBIDDEN = {
    "{% macro m() %}x{% endmacro %}": "{% macro %}",
    "{% call f() %}x{% endcall %}": "{% call %}",
    "{% filter upper %}x{% endfilter %}": "{% filter %}",
    "{% set x %}{{ v }}{% endset %}": "{% set %} … {% endset %}",
    '{% import "parts/p.yaml.j2" as p %}': "{% import %}",
    '{% from "parts/p.yaml.j2" import q %}': "{% from %}",
    '{% include "parts/p.yaml.j2" %}': "{% include %}",
    '{% extends "parts/p.yaml.j2" %}': "{% extends %}",
    "{% block b %}{{ v }}{% endblock %}{{ self.b() }}": "{% block %}",
    "{% autoescape true %}{% endautoescape %}": "{% autoescape %}",
    "{% for x in [1] recursive %}{{ loop([2]) }}{% endfor %}": "a recursive {% for %}",
}


@pytest.mark.parametrize("statement", FORBIDDEN)
@pytest.mark.parametrize("around", ["a: 1\n{}\n", "a: 1\n{{% if false %}}{}{{% endif %}}\n"])
def test_forbidden_statements(statement, around):
    """Statements that capture or splice what was printed are refused by name, even where they never run."""
    with pytest.raises(TemplateError) as caught:
        render(around.format(statement), {"p": "b: 1"}, v="x", f=lambda: 1)

    assert caught.value.message == f"{FORBIDDEN[statement]} is not allowed in templates"
    assert (caught.value.template, caught.value.line) == ("main", 2)


@pytest.mark.parametrize(
    "expression",
    [
        "''.__class__",
        "''['__class__']",
        "v.__class__.__mro__",
        "[''] | map(attribute='__class__') | list",
        "part.__func__.__globals__",
        "part.__self__",
        "given.__globals__",
        "self._TemplateReference__context",
        "''.format.__self__",
        "'{0.__class__}'.format(v)",
        "'{x.__class__}'.format_map({'x': v})",
        "('{0.' ~ '__class__}').format(v)",
        "{}.update({'a': 1})",
        "items.append(1)",
        "items.clear()",
        "cycler",
        "lipsum()",
        "range(3)",
        "namespace()",
        "dict(a=1)",
        "v | attr('upper')",
        "v | safe",
        "v | tojson",
        "items | random",
        "v | pprint",
        "v | forceescape",
        "chronik_placeholders",
        "now()",
    ],
)
def test_sandbox(expression):
    """Templates reach values and a few functions: no Python internals, nothing random, nothing that changes a value."""
    items = [1]
    with pytest.raises(TemplateError) as caught:
        render(f"a: {{{{ {expression} }}}}", v="text", items=items)

    assert caught.value.line == 1
    assert items == [1]


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("a: 1\nb: Zq0q0Z\n", 2),
        ("a: {{ v }}\n\n# Zq0q", 3),
        ("a: Zq{# #}0q0Z", 1),
        ("a: {{ v }}\nb: Zq{% if true %}0q0Z{% endif %}", 2),
        ("b: Zq{% if true %}0q1Z{% endif %}\na: {{ v }}", 1),
        ("a: Zq0{{ v }}q1Z\nb: Zq{% if true %}0q1Z{% endif %}", 2),
    ],
)
def test_templates_cannot_forge_placeholders(template, line):
    """The text of a placeholder is refused in a template, in one piece or in several."""
    with pytest.raises(TemplateError, match=r"the text Zq0q(.Z)? is reserved") as caught:
        render(template, v="secret")

    assert caught.value.line == line


def test_values_cannot_forge_placeholders():
    """A value that looks like a placeholder is text, even beside the value that it names."""
    found = render("a: {{ v }}\nb: x{{ v }}{{ w }}\n{{ w }}: '{{ v }}'", v="Zq0q0Z", w="Zq0q1Z")

    assert found == {"a": "Zq0q0Z", "b": "xZq0q0ZZq0q1Z", "Zq0q1Z": "Zq0q0Z"}


TALL = """\
{# a comment
   of two lines #}
{% if v %}
a: {{ v }}
{% endif %}
{% for x in items %}
{% if x > 1 %}
b{{ x }}: {{ x }}
{% endif %}
{%- endfor +%}
c:
- d:  # words {{ v }}
    {{ part("p", x=1) }}
- |
  text {{ v }}
  text
last: {{ WRONG }}
"""


@pytest.mark.parametrize("wrong", ["nope", "none", "none ~ nope", "part('p')", "[(1,)]"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_line_numbers(wrong, ends):
    """A line is the template's own: after blocks that left no line, loops, comments and parts, with any line ends."""
    template = TALL.replace("WRONG", wrong).replace("\n", ends)
    with pytest.raises(TemplateError) as caught:
        render(template, {"p": "q: {{ x }}"}, v="x", items=[1, 2, 3])

    assert caught.value.line == (1 if wrong == "part('p')" else 17)
    assert caught.value.template == ("parts/p.yaml.j2" if wrong == "part('p')" else "main")


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("{% if true %}\n{% endif %}\na: 1\nb: on\n", 4),
        ("a: 1\n{% for x in [1, 2] %}\nb{{ x }}: 1\nc: 2\n{% endfor %}\n", 4),
        ("{% for x in [1, 2, 3] %}\n{{ 'a' if x == 2 else 'b' ~ x }}: 1\n{% endfor %}\na: 2\n", 4),
        ("a: 1\n{{ 'a' }}: 2", 2),
        ("{{ none }}", 1),
        ("a:\n  {{- none }}", 1),
        ("{% set x = 1 -%}\n\n\na: {{ none }}\n", 4),
        ("a: {{ merged(\n  {'b': 1},\n  {'c': 2}) }}\nb: yes\n", 4),
        ("{% raw %}\na: 1\nb: {{ x }}\n{% endraw %}\nc: off\n", 3),
        ('a: "one\n  two {{ "x" }}"\nb: off', 3),
        ("\n\n  \na: ~", 4),
    ],
)
def test_line_numbers_of_structure(template, line, ends):
    """So is the line of what only the parsed tree shows: a word to quote, a key that stands there twice, a null."""
    with pytest.raises(TemplateError) as caught:
        render(template.replace("\n", ends))

    assert caught.value.line == line


def test_error_in_a_part_of_a_part():
    """An error deep inside names the part where it happened."""
    parts = {"outer": "x:\n- {{ part('inner', n=1) }}", "inner": "a: 1\nb: 2\nc: {{ spec.zone }}"}
    with pytest.raises(TemplateError) as caught:
        render("a: {{ part('outer') }}", parts, spec={"zones": 1})

    assert str(caught.value) == "parts/inner.yaml.j2:3: there is no zone here: did you mean zones?"


def test_missing_template():
    """A template that is not there is an error that names it."""
    with pytest.raises(TemplateError, match=r"^other: there is no template other$"):
        templates("a: 1").render("other", {})


def test_broken_part():
    """A part that does not compile is named with its line, and not its user's."""
    with pytest.raises(TemplateError, match=r"^parts/p.yaml.j2:2: \{% macro %\} is not allowed in templates$"):
        render("a: 1\n\n\nb: {{ part('p') }}", {"p": "a: 1\n{% macro x() %}{% endmacro %}"})


def test_parts_are_data():
    """A part is a value: no indentation to count, and its keys cannot meet those around it."""
    parts = {"list": "- a\n- b: {{ n }}", "map": "x: {{ part('list') }}", "text": "just words", "nothing": ""}
    template = """
a:
    - {{ part("map") }}
b: {{ part("list", n=2) }}
c: {{ part("text") }}
d: {{ part("nothing") | optional }}
"""

    assert render(template, parts, n=1) == {"a": [{"x": ["a", {"b": 1}]}], "b": ["a", {"b": 2}], "c": "just words"}


def test_parts_see_what_their_user_sees():
    """A part sees the variables of the template that uses it, and what that sets; its own arguments win."""
    template = "{% set s = 1 %}\n{% for i in [5, 6] %}\n- {{ part('p', i=i, g=7) }}\n{% endfor %}"

    assert render(template, {"p": "[{{ s }}, {{ i }}, {{ g }}, {{ h }}]"}, g=1, h=8) == [[1, 5, 7, 8], [1, 6, 7, 8]]


def test_parts_do_not_see_loops():
    """A part does not see the variable of a loop around it, unless it is handed over; the error names the part."""
    with pytest.raises(TemplateError, match=r"^parts/p.yaml.j2:1: i is not defined\n"):
        render("{% for i in [5] %}\n- {{ part('p') }}\n{% endfor %}", {"p": "a: {{ i }}"})


def test_parts_do_not_recurse_for_ever():
    """A part that uses itself is an error that says so, before Python's stack ends."""
    with pytest.raises(TemplateError, match=r"parts are nested more than 8 deep; does p use itself\?") as caught:
        render("a: {{ part('p') }}", {"p": "b: 1\nc: {{ part('p') }}"})

    assert (caught.value.template, caught.value.line) == ("parts/p.yaml.j2", 2)


def test_values_are_not_changed():
    """What a render returns is made anew; what it was given stays as it was."""
    spec = {"labels": {"a": "1"}, "list": [1]}
    set_of_templates = templates("a: {{ merged(spec.labels, {'b': '2'}) }}\nb: {c: 1}")

    first = set_of_templates.render("main", {"spec": spec})
    first["b"]["c"] = 2

    assert spec == {"labels": {"a": "1"}, "list": [1]}
    assert set_of_templates.render("main", {"spec": spec})["b"] == {"c": 1}


def test_one_set_of_templates_serves_many_threads():
    """Renders at the same time do not see each other's values."""
    set_of_templates = templates(
        "{% for i in range_ %}\nk{{ i }}: '{{ v }}-{{ part('p', w=i) }}'\n{% endfor %}\nall: {{ part('q') }}",
        p='"{{ v }}{{ w }}"',
        q="{v: {{ v }}}",
    )

    def one(number: int) -> bool:
        count = number % 7
        found = set_of_templates.render("main", {"v": number, "range_": list(range(count))})
        return found == {**{f"k{i}": f"{number}-{number}{i}" for i in range(count)}, "all": {"v": number}}

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(one, range(1_000)))
    finally:
        sys.setswitchinterval(interval)


def test_bytecode_cache_changes_nothing(tmp_path):
    """Compiled templates are kept between processes: same data, same refusals, same lines."""
    texts = {"main": "a: {{ v }}\nb: {{ nope }}", "bad": "x: 1\n{% macro m() %}{% endmacro %}"}
    seen = []
    for _ in range(2):
        set_of_templates = Templates(texts.get, FileSystemBytecodeCache(str(tmp_path)))
        with pytest.raises(TemplateError) as missing:
            set_of_templates.render("main", {"v": 1})
        with pytest.raises(TemplateError) as refused:
            set_of_templates.render("bad", {})
        seen.append((str(missing.value), str(refused.value)))

    assert list(tmp_path.iterdir())
    assert (
        seen
        == [
            (
                "main:2: nope is not defined\nThere are given, merged, numbered, part, properties, reprobed, v.",
                "bad:2: {% macro %} is not allowed in templates",
            )
        ]
        * 2
    )


def test_omit_is_only_for_whole_values():
    """What `optional` returns means nothing inside a map; the error says what to use."""
    with pytest.raises(TemplateError, match=r"with given\(\)"):
        render("a: {{ {'b': v} }}", v=OMIT)
