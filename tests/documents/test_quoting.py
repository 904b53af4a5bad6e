from __future__ import annotations

import itertools
import random
import re

import pytest
import yaml
from support.hostile import LOOK_ALIKES, ORDINARY
from support.kubectl import kubectl_reads

from chronik.documents.scalars import is_ambiguous, read_plain

# The resolution of YAML 1.2's core schema, https://yaml.org/spec/1.2.2/#1032-tag-resolution
CORE_1_2 = re.compile(
    r"null|Null|NULL|~||true|True|TRUE|false|False|FALSE"
    r"|[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
    r"|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN"
)
# YAML 1.1's types, https://yaml.org/type/; the float's sloppy `[0-9.]*` is read as the one dot it means.
TYPES_1_1 = re.compile(
    r"~|null|Null|NULL||y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF|<<|="
    r"|[-+]?0b[01_]+|[-+]?0[0-7_]+|[-+]?(0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(:[0-5]?[0-9])+"
    r"|[-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+][0-9]+)?|[-+]?\.[0-9]+([eE][-+][0-9]+)?"
    r"|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(\.[0-9]*)?"
    r"([ \t]*(Z|[-+][0-9]{1,2}(:[0-9]{2})?))?"
)


def plain_scalars() -> list[str]:
    """Return thousands of texts that look like numbers, dates or words, and may stand unquoted in a YAML list."""
    short = ("".join(each) for length in (1, 2, 3) for each in itertools.product("01+-._eExXobB:y", repeat=length))
    chance = random.Random(0)
    longer = ("".join(chance.choices("00123456789+-._eExXoObB:aFinNTZ", k=chance.randint(4, 12))) for _ in range(4_000))
    dates = (
        f"{chance.randint(0, 2100):04}-{chance.randint(0, 13)}-{chance.randint(0, 32):02}{time}"
        for time in ("", "T1:2:3Z", "t10:20:30.5+01:00", " 1:2:3", " 10:20:30.25", "T10:20", " 1:2:3 -5", "x", "-1")
        * 30
    )
    return sorted({text for text in (*short, *longer, *dates, *LOOK_ALIKES, *ORDINARY) if may_stand_plain(text)})


def may_stand_plain(text: str) -> bool:
    """Say whether an unquoted text is a scalar at all, and one that says the text and no more."""
    try:
        return yaml.load(f"- {text}\n", Loader=yaml.CBaseLoader) == [text]
    except yaml.YAMLError:
        return False


def same(left: object, right: object) -> bool:
    """Compare as JSON does: 1 and 1.0 are one number, and true is no number."""
    return left == right and isinstance(left, bool) is isinstance(right, bool)


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    """Return the texts to try."""
    texts = plain_scalars()
    assert len(texts) > 5_000
    return texts


@pytest.fixture(scope="module")
def read_by_kubectl(corpus) -> dict[str, object]:
    """Return what kubectl reads out of each unquoted text, but for those that JSON, and so kubectl, cannot hold."""
    texts = [text for text in corpus if not re.fullmatch(r"[-+]?\.(inf|nan)", text, re.IGNORECASE)]
    head = "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: x}\nvalues:\n"
    values = kubectl_reads(head + "".join(f"- {text}\n" for text in texts))["values"]
    return dict(zip(texts, values, strict=True))


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_look_alike(text):
    """What some parser reads as another type is ambiguous."""
    assert is_ambiguous(text)


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary(text):
    """What every parser reads as that text is not, and stands for itself."""
    assert not is_ambiguous(text)
    assert read_plain(text) == text


def test_yaml_1_1_and_1_2_agree(corpus):
    """What is not ambiguous is a string to YAML 1.1, to YAML 1.2 and to PyYAML."""
    for text in corpus:
        if not is_ambiguous(text):
            assert not TYPES_1_1.fullmatch(text), text
            assert not CORE_1_2.fullmatch(text), text
            assert yaml.safe_load(f"- {text}") == [text], text


def test_kubectl_agrees(read_by_kubectl):
    """What is not ambiguous is that string to kubectl, too."""
    misread = {text: value for text, value in read_by_kubectl.items() if value != text and not is_ambiguous(text)}

    assert misread == {}


def test_few_are_ambiguous_in_vain(corpus, read_by_kubectl):
    """Nearly all that is called ambiguous is one: some parser does read something else."""
    vain = [
        text
        for text in corpus
        if is_ambiguous(text)
        and read_by_kubectl.get(text) == text
        and not TYPES_1_1.fullmatch(text)
        and not CORE_1_2.fullmatch(text)
    ]

    assert len(vain) < len(corpus) / 25, vain


def test_plain_literals_mean_one_thing(corpus, read_by_kubectl):
    """Whatever a template may leave unquoted, PyYAML and kubectl read as chronik does; the rest it must quote."""
    accepted = 0
    for text in corpus:
        try:
            value = read_plain(text)
        except ValueError:
            continue
        accepted += 1
        assert same(value, yaml.safe_load(f"- {text}")[0]), text
        assert same(value, read_by_kubectl[text]), text
    assert accepted > 1_000


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("False", False), ("0", 0), ("-12", -12), ("1.5", 1.5), ("", None), ("~", None), ("NULL", None)],
)
def test_plain_literal(text, value):
    """Booleans, whole numbers, decimals and nulls have their YAML types."""
    assert same(read_plain(text), value)


@pytest.mark.parametrize("text", ["yes", "on", "012", "1e3", "0x1F", "1_000", "12:30:45", "2001-01-01", "<<", "9" * 19])
def test_plain_literal_that_parsers_dispute(text):
    """A word that parsers read differently is an error that says to quote it."""
    with pytest.raises(ValueError, match="YAML parsers disagree about an unquoted"):
        read_plain(text)
