"""The rules of kubectl's parser, as a table, and the proof of it: kubectl reads the same texts, where it is found."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pytest
import yaml
from support.hostile import LOOK_ALIKES, ORDINARY
from support.kubectl import kubectl_reads

from chronik.documents.reader import parse_documents
from chronik.documents.scalars import ScalarError, key_of, resolve, resolve_plain

TABLE = [
    tuple(line.split("\t")) for line in Path(__file__).with_name("scalars.tsv").read_text("utf-8").splitlines()[1:]
]
PROBLEMS = ("number", "tag")
VALUES = {text: json.loads(meaning) for text, meaning in TABLE if meaning not in PROBLEMS}
NOTHING_IN_JSON = ("nan", "inf")
HEAD = "apiVersion: v1\nkind: Reading\nmetadata: {name: reading}\n"


def same(left, right):
    """Compare as JSON does: 1 and 1.0 are one number, and true is no number."""
    return left == right and isinstance(left, bool) is isinstance(right, bool)


@pytest.mark.parametrize(("text", "value"), VALUES.items())
def test_scalars(text, value):
    """A scalar means what the table says, and whole numbers are integers."""
    documents, problems = parse_documents(f"a: {text}", "file.yaml")

    assert problems == []
    read = documents[0].tree["a"]
    assert same(read, value)
    assert not isinstance(read, float) or not read.is_integer() or abs(read) >= 2**63


@pytest.mark.parametrize(("text", "code"), [row for row in TABLE if row[1] in PROBLEMS])
def test_scalars_that_mean_nothing(text, code):
    """What JSON has no number for, what kubectl would silently round, and what does not fit its tag is an error."""
    documents, problems = parse_documents(f"a: {text}", "file.yaml")

    assert documents == []
    assert [(problem.code, problem.path) for problem in problems] == [(code, ("a",))]


@pytest.mark.parametrize("text", ["on", "y", "True", "010", "0x10", "1e3", "1.5", "1_000", "-0", "~"])
def test_keys_that_are_not_what_they_say(text):
    """A key that kubectl would spell in another way, or that is a float or null, is an error."""
    with pytest.raises(ScalarError) as error:
        key_of(text, resolve_plain(text))

    assert error.value.code == "key"


@pytest.mark.parametrize("text", ["a", "8080", "-1", "true", "false", "2001-01-01", "12:30", "="])
def test_keys_that_are_what_they_say(text):
    """A key that kubectl spells as it is written is that text, whatever type it would have as a value."""
    assert key_of(text, resolve_plain(text)) == text


@pytest.mark.parametrize("digits", ["9" * 400, "9" * 5_000, "-0x" + "f" * 600, "." + "5_" * 100_000, "1" * 10**6])
def test_digits_without_end(digits):
    """More digits than any number has are text, and cost nothing."""
    assert resolve_plain(digits) == digits


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_quoted_scalars_are_text(text):
    """A quoted scalar is text, whatever it looks like."""
    assert resolve(text, None, plain=False) == text


def test_kubectl_reads_the_table():
    """What the table says of a text is what kubectl reads."""
    lines = [f"v{number}: {text}\n" for number, text in enumerate(VALUES)]

    read = kubectl_reads(HEAD + "".join(lines))

    found = {text: read.get(f"v{number}") for number, text in enumerate(VALUES)}
    assert {text: value for text, value in found.items() if not same(value, VALUES[text])} == {}


def test_kubectl_rounds_what_we_refuse():
    """Each integer that we call too large comes out of kubectl as another number."""
    texts = [text for text, meaning in TABLE if meaning == "number" and not text.lower().endswith(NOTHING_IN_JSON)]

    read = kubectl_reads(f"{HEAD}list: [{', '.join(texts)}]\n")["list"]

    assert [value for value in read if -(2**63) <= value < 2**63 - 1024] == []


def test_kubectl_agrees_on_thousands():
    """We read thousands of texts that look like numbers, dates or words as kubectl does."""
    texts = [text for text in candidates() if stands_alone(text)]
    assert len(texts) > 5_000

    read = kubectl_reads(HEAD + "list:\n" + "".join(f"- {text}\n" for text in texts))["list"]

    pairs = zip(texts, read, strict=True)
    assert [(text, theirs) for text, theirs in pairs if not same(resolve_plain(text), theirs)] == []


def candidates():
    """Yield texts over the characters that numbers, dates and words are made of."""
    yield from LOOK_ALIKES
    yield from ORDINARY
    for length in (1, 2, 3):
        yield from map("".join, itertools.product("01+-._eExXobB", repeat=length))
    chance = random.Random(1)
    for _ in range(6_000):
        yield "".join(chance.choices("00112789+-._eEfFaxXoObBinyNT:", k=chance.randint(3, 12)))


def stands_alone(text):
    """Say whether an unquoted text is one scalar that kubectl can answer for."""
    try:
        resolve_plain(text)
        return yaml.load(f"- {text}\n", Loader=yaml.CBaseLoader) == [text]
    except (ScalarError, yaml.YAMLError):
        return False
