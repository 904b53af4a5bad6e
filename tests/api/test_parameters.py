"""What options take is what the API server takes in a field of that kind, and everything else is refused at once."""

from __future__ import annotations

import io
import json
import random
import re
from pathlib import Path

import click
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.cli_place import run
from support.examples import examples

from chronik.api import names
from chronik.cli import main as cli
from chronik.cli import parameters
from chronik.cli.rollouts.by_hand import Step
from chronik.offline import assets
from chronik.render.install import OPERATOR_NAME

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "standard.yaml")

HERE = Path(__file__).parent
MINIMAL = str(HERE.parents[1] / "examples" / "minimal.yaml")
CASES = yaml.safe_load((HERE / "options.yaml").read_text("utf-8"))

TEXTS = parameters.Text | parameters.Object | parameters.NamespacedName | parameters.Names

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
"""The expressions of apimachinery's validation, word for word."""


def kubernetes_takes(kind: str, text: str) -> bool:
    """Say whether Kubernetes takes a text as a name of that kind."""
    if kind == "namespace":
        return len(text) <= 63 and LABEL.fullmatch(text) is not None
    if kind == "operator":
        return len(f"{text}-metrics") <= 63 and LABEL_1035.fullmatch(text) is not None
    if kind == "cluster":
        return len(text) <= 41 and LABEL_1035.fullmatch(text) is not None
    labels_fit = kind != "domain" or all(len(label) <= 63 for label in text.split("."))  # what DNS itself asks for
    return len(text) <= 253 and SUBDOMAIN.fullmatch(text) is not None and labels_fit


TYPES = {
    "namespace": parameters.NAMESPACE,
    "operator": parameters.form("name", OPERATOR_NAME, "name"),
    "cluster": parameters.CLUSTER_NAME,
    "object": parameters.OBJECT_NAME,
    "domain": parameters.DNS_DOMAIN,
}
ALPHABET = [*"ab-.1", "Z", "_", " ", "\n", "é", "/", "a" * 40, "b" * 63, ("c" * 60 + ".") * 3, "1a", "a-b", ".."]
texts = st.lists(st.sampled_from(ALPHABET), max_size=6).map("".join)


def takes(kind: click.ParamType, text: str) -> bool:
    """Say whether a type takes a text; if so, it comes back as it is."""
    try:
        return kind.convert(text, None, None) == text
    except click.BadParameter:
        return False


@pytest.mark.parametrize("kind", TYPES)
@given(text=texts)
@settings(max_examples=examples(500))
def test_names(kind, text):
    """A name is taken if Kubernetes takes it, and only then."""
    assert takes(TYPES[kind], text) is (bool(text.strip()) and kubernetes_takes(kind, text))


@pytest.mark.parametrize(
    ("form", "place"),
    [
        (names.NAMESPACE, ("$defs", "namespaceName")),
        (names.CLUSTER_NAME, ("$defs", "objectMeta", "properties", "name")),
        (names.OBJECT_NAME, ("$defs", "secretName")),
        (names.IMAGE, ("$defs", "imageReference")),
        (names.LABEL_NAME, ("$defs", "labelValue")),
    ],
    ids=lambda each: each[-1] if isinstance(each, tuple) and isinstance(each[0], str) and each[0] == "$defs" else "",
)
@given(data=st.data())
@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.too_slow])
def test_forms_are_the_schemas(form, place, data):
    """What an option takes is what a document's field of that kind takes."""
    field = assets.schema()
    for step in place:
        field = field[step]
    pattern = re.compile(field["pattern"][1:-1])
    text = data.draw(st.one_of(texts, st.from_regex(pattern, fullmatch=True), images))

    assert form.fits(text) is (
        field.get("minLength", 1) <= len(text) <= field["maxLength"] and pattern.fullmatch(text) is not None
    )


images = st.lists(
    st.sampled_from(
        ["registry.example.com", "chronik", "/", ":", "1.4.2", "@sha256:", "ab" * 32, "A", "_", "-", "8080"]
    ),
    max_size=7,
).map("".join)


def test_a_long_domain():
    """A domain is at most 253 characters long, as a whole."""
    longest = ".".join(["a" * 63] * 3 + ["a" * 61])

    assert takes(parameters.DNS_DOMAIN, longest)
    assert not takes(parameters.DNS_DOMAIN, f"{longest}a")
    assert not takes(parameters.DNS_DOMAIN, "a" * 300)


# --- label selectors --------------------------------------------------------------------------------------------------

TOKENS = [
    "a",
    "b",
    "in",
    "notin",
    "=",
    "==",
    "!=",
    "!",
    "(",
    ")",
    ",",
    " ",
    ">",
    "<",
    "1",
    "x/y",
    "-",
    "a.b",
    "é",
    "\t",
]
TOKENS += [" in (", ")", ", ", "a=b", "a" * 64, "X/y", "99999999999999999999"]


def server_takes(text: str) -> bool:
    """Say whether apimachinery's `labels.Parse` takes a selector: its lexer and its parser, in Python."""
    tokens = _tokens(text)
    return tokens is not None and _Parser(tokens).selector()


def _tokens(text):
    found, at = [], 0
    while at < len(text):
        match = re.compile(r"[ \t\r\n]+|(==|!=|[=!(),<>])|([^ \t\r\n=!(),<>]+)").match(text, at)
        at = match.end()
        if match[1] or match[2]:
            found.append((match[1] or ("in" if match[2] in {"in", "notin"} else "id"), match[0]))
    return [*found, ("end", "")]


class _Parser:
    """The grammar, as it stands in the source."""

    def __init__(self, tokens):
        self.tokens = tokens

    def look(self, *, values=True):
        kind = self.tokens[0][0]
        return "id" if values and kind == "in" else kind

    def take(self, *, values=True):
        kind = self.look(values=values)
        return kind, self.tokens.pop(0)[1] if len(self.tokens) > 1 else ""

    def selector(self):
        if self.look() == "end":
            return True
        while True:
            if self.look() not in {"id", "!"} or not self.requirement():
                return False
            kind, _ = self.take()
            if kind != ",":
                return kind == "end"

    def requirement(self):
        kind, text = self.take()
        negated = kind == "!"
        if negated:
            kind, text = self.take()
        prefix, slash, name = text.rpartition("/")
        if kind != "id" or not name or len(name) > 63 or not VALUE.fullmatch(name):
            return False
        if slash and not (len(prefix) <= 253 and SUBDOMAIN.fullmatch(prefix)):
            return False
        if negated or self.look() in {"end", ","}:
            return True
        operator, _ = self.take(values=False)
        found = self.values() if operator == "in" else self.value() if operator in {"=", "==", "!=", "<", ">"} else None
        if found is None or not all(len(each) <= 63 and VALUE.fullmatch(each) for each in found):
            return False
        return operator not in {"<", ">"} or (found[0].isdigit() and int(found[0]) < 2**63)

    def value(self):
        if self.look() in {"end", ","}:
            return [""]
        kind, text = self.take()
        return [text] if kind == "id" else None

    def values(self):
        if self.take()[0] != "(":
            return None
        found, fresh = [], True
        while True:
            kind, text = self.take()
            if kind == ")":
                return found
            if kind == "id" and fresh:
                found.append(text)
                fresh = False
            elif kind == ",":
                fresh = True
            else:
                return None


@given(tokens=st.lists(st.sampled_from(TOKENS), max_size=9))
@settings(max_examples=examples(2_000))
def test_selectors(tokens):
    """A label selector is taken if the API server takes it, and only then, unless it is empty."""
    text = "".join(tokens)

    assert (names.selector_error(text) == "") is server_takes(text), text
    assert takes(parameters.SELECTOR, text) is (bool(text.strip()) and server_takes(text))


@pytest.mark.real
def test_selectors_on_a_server(real_server):
    """The API server itself takes the selectors that we take, and refuses the others.

    Only a real one parses them in full.
    """
    generator = random.Random(36)
    path = "/api/v1/namespaces/default/configmaps"
    verdicts = set()
    for _ in range(2_000):
        text = "".join(generator.choice(TOKENS) for _ in range(generator.randrange(1, 9)))
        taken = real_server.call("GET", path, labelSelector=text, limit="1").code == 200
        verdicts.add(taken)

        assert (names.selector_error(text) == "") is taken, text
    assert verdicts == {True, False}


@pytest.mark.real
def test_names_on_a_server(real_server):
    """The API server itself takes the names that we take, and refuses the others.

    Only a real one checks them.
    """
    generator = random.Random(36)
    for _ in range(300):
        text = "".join(generator.choice(ALPHABET) for _ in range(generator.randrange(1, 5)))
        made = {"metadata": {"name": text}}
        for kind, path, form in (
            ("Namespace", "/api/v1/namespaces", names.NAMESPACE),
            ("ConfigMap", "/api/v1/namespaces/default/configmaps", names.OBJECT_NAME),
        ):
            body = {"apiVersion": "v1", "kind": kind, **made}
            code = real_server.call("POST", path, body, dryRun="All").code

            assert code in {201, 400, 422}
            assert form.fits(text) is (code == 201), (kind, text)


# --- whole commands ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case["arguments"])[:60])
def test_options(case, monkeypatch):
    """A value that cannot be meant ends a command with 2, the option's name and a reason, before anything is done."""
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    files = [MINIMAL] if case["arguments"][0] in {"render", "validate", "apply", "diff"} else []
    done = run(*case["arguments"], *files)

    assert (done.code, done.out) == (2, "")
    assert case["message"] in " ".join(done.err.split())
    assert "Traceback" not in done.err


TAKES_ANYTHING = {"help", "version", "files", "paths"}  # what documents are read from is checked when it is read
CHOICES = Step | parameters.Choices | click.Choice | click.IntRange | click.FloatRange | click.types.BoolParamType


@pytest.mark.parametrize("text", ["", " ", "0", "-1", "1.5", "first", "²"])
def test_what_is_no_step_is_refused(text):
    """A step is a number from 1, or all of them."""
    with pytest.raises(click.BadParameter, match="neither the number of a step, from 1, nor 'all'"):
        Step().convert(text, None, None)
    assert [Step().convert(each, None, None) for each in ("2", "all")] == [2, 0]


def options():
    """Yield every option and argument of every command."""
    context = click.Context(cli.main)
    for name in cli.main.list_commands(context):
        command = cli.main.get_command(context, name)
        for parameter in command.params:
            if parameter.name not in TAKES_ANYTHING:
                yield pytest.param(parameter, id=f"{name} {parameter.name}")


@pytest.mark.parametrize("parameter", [*options()])
def test_no_option_takes_just_any_text(parameter):
    """Every option has a type that checks it: a choice, a range, or one of our own that refuses what is empty."""
    if parameter.name in {"renew_deadline", "retry_period"}:  # checked together
        return
    if isinstance(parameter.type, CHOICES) or getattr(parameter, "is_flag", False):
        return
    if isinstance(
        parameter.type, parameters.Source
    ):  # read later, and refused then: see test_names_of_files_that_are_empty
        return
    assert isinstance(parameter.type, TEXTS | parameters.Duration)
    for text in ("", " ") if isinstance(parameter.type, TEXTS) else ("",):
        with pytest.raises(click.BadParameter, match=r"Is the variable set|write 30s"):
            parameter.type.convert(text, None, None)


@pytest.mark.parametrize("option", ["-f", "--from"])
def test_names_of_files_that_are_empty(option):
    """An empty name of a file is refused when files are read."""
    files = {"-f": EXAMPLE, "--from": EXAMPLE, option: ""}
    done = run("diff", *(part for each in files.items() for part in each))

    assert (done.code, done.err.partition("\n")[0]) == (2, "error: a file name is empty")


def test_values_of_options_reach_the_output():
    """What the types take comes out as it went in."""
    done = run("render", MINIMAL, "-n", "team-a", "--cluster-domain", "k8s.example.com", "-o", "json")

    assert done.code == 0
    assert {each["metadata"]["namespace"] for each in json.loads(done.out)["items"]} == {"team-a"}
    assert ".svc.k8s.example.com" in done.out


@pytest.mark.parametrize("text", ["1", "60", "86400", "1.5"])
def test_seconds(text):
    """A number of seconds is taken within its range."""
    assert parameters.Seconds(1, 86_400).convert(text, None, None) == float(text)
