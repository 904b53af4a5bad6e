from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.quantities import is_quantity

from chronik.quantity import QuantityError, canonical_quantity, parse_quantity

if TYPE_CHECKING:
    from support.api import ApiServer

SUFFIXES = ("", *"munkMGTPE", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e0", "e3", "E3", "e-3", "e+2", "E-7", "e18")

# What a user may write, and how kube-apiserver 1.36 prints it as a resource (see the test that asks it).
PRINTED = {
    "0": "0",
    "0Gi": "0",
    "0m": "0",
    "1": "1",
    "1000": "1k",
    "1024": "1024",
    "1000000": "1M",
    "1000k": "1M",
    "1000m": "1",
    "1500m": "1500m",
    "0.5": "500m",
    ".5": "500m",
    "0.500": "500m",
    "1.5": "1500m",
    "1.10": "1100m",
    "1.000": "1",
    "1023": "1023",
    "1Ki": "1Ki",
    "0.5Ki": "512",
    "1.5Ki": "1536",
    "1000Ki": "1000Ki",
    "1024Ki": "1Mi",
    "1024Mi": "1Gi",
    "1.5Gi": "1536Mi",
    "0.5Gi": "512Mi",
    "0.1Gi": "107374182400m",
    "999Gi": "999Gi",
    "7Ei": "7Ei",
    "5E": "5E",
    "1000P": "1E",
    "1e3": "1e3",
    "15e2": "1500",
    "10e2": "1e3",
    "1e4": "10e3",
    "1e18": "1e18",
    "1e-3": "1e-3",
    "5e-1": "500e-3",
    "0.5e-1": "50e-3",
    "100n": "1m",
    "1.23456789u": "1m",
    "1234567u": "1235m",
    "0.0001": "1m",
    "0.1n": "1m",
    "-5": "-5",
    "-0.1n": "-1m",
    "-1.5Gi": "-1536Mi",
    "9223372036854775807": "9223372036854775807",
}
# What the server leaves as it is written, though it has a shorter name for the amount.
LEFT_ALONE = {"+1": "1", "01": "1", "1.": "1", "1.500": "1500m", "1E3": "1e3", "1500e0": "1500", "+2Gi": "2Gi"}

numbers = st.one_of(
    st.integers(0, 10**20).map(str),
    st.decimals(0, 10**6, places=3).map("{:f}".format),
    st.integers(0, 10**12).map(".{}".format),
)
quantities = st.builds("{}{}{}".format, st.sampled_from(["", "-", "+"]), numbers, st.sampled_from(SUFFIXES)).filter(
    is_quantity
)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        (2, "2"),
        ("500m", "0.5"),
        ("1.5Gi", str(1536 * 2**20)),
        ("10G", "1e10"),
        ("2e3", "2000"),
        ("0.1n", "1e-9"),
        ("-0.1n", "-1e-9"),
        ("1.00000000000000000000000000001", "1.000000001"),
        ("1.0000000000000000000000000001Gi", str(Decimal(2**30) + Decimal("1e-9"))),
        ("0e99999999", "0"),
        ("1e-99999999", "1e-9"),
    ],
)
def test_amount(text, amount):
    """A quantity names an exact amount; what is smaller than a nano rounds away from zero."""
    assert parse_quantity(text) == Decimal(amount)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "1 ", "m", ".", "-", "1mi", "1ki", "1K", "1GiB", "1Gi ", "0x10", "1,5", "1_000", "\u0661", "1e"),
        *("1e3m", "1.5.5", "--1", "e3", "inf", "nan", "1\n", "one", "9" * 65, "True", True),
    ],
)
def test_no_quantity(text):
    """What is no quantity is refused, and the error quotes it and shows what one looks like."""
    assert not is_quantity(text)
    with pytest.raises(QuantityError, match=r"is not a quantity such as 500m, 2, 1\.5Gi or 10G"):
        parse_quantity(text)


@pytest.mark.parametrize("text", ["8Ei", "9223372036854775808", "1e19", "-10E", "1000000000000E", "1e99999999"])
def test_too_much(text):
    """An amount that the API server would cap, or print as another one, is refused."""
    with pytest.raises(QuantityError, match=r"more than the API server can count, which is 2\^63-1"):
        parse_quantity(text)


def test_true_is_no_one():
    """A boolean is no quantity, even after the integer that equals it was one."""
    assert is_quantity(1)
    assert not is_quantity(True)


@pytest.mark.parametrize(("text", "printed"), [*PRINTED.items(), *LEFT_ALONE.items(), (2, "2"), (1500, "1500")])
def test_canonical(text, printed):
    """A quantity is spelled as the API server prints it."""
    assert canonical_quantity(text) == printed


@given(quantities)
def test_canonical_keeps_the_amount(text):
    """The canonical spelling names the same amount, rounded away from zero to a thousandth."""
    amount, canonical = parse_quantity(text), parse_quantity(canonical_quantity(text))

    assert abs(amount) <= abs(canonical) < abs(amount) + Decimal("0.001")
    assert canonical * 1000 == int(canonical * 1000)
    if amount * 1000 == int(amount * 1000):
        assert canonical == amount


@given(quantities)
def test_canonical_is_final(text):
    """A canonical spelling is its own canonical spelling."""
    once = canonical_quantity(text)

    assert canonical_quantity(once) == once


@given(st.integers(-(10**15), 10**15))
def test_equal_amounts_look_alike(number):
    """Spellings of one amount in one notation have one canonical spelling."""
    decimal = {f"{number}m", f"{number * 1000}u", f"{Decimal(number).scaleb(-3):f}", f"{Decimal(number).scaleb(-6):f}k"}
    binary = {f"{number}Mi", f"{number * 1024}Ki"} | ({f"{number // 1024}Gi"} if number % 1024 == 0 else set())

    assert len({canonical_quantity(text) for text in decimal}) == 1
    assert len({canonical_quantity(text) for text in binary if is_quantity(text)}) <= 1


def limits(server: ApiServer, spellings: list[str]) -> list[str]:
    """Return how the server prints quantities, as a LimitRange, which takes any of them."""
    names = [f"example.com/q{number}" for number in range(len(spellings))]
    body = {
        "metadata": {"name": "quantities"},
        "spec": {"limits": [{"type": "example.com/any", "max": dict(zip(names, spellings, strict=True))}]},
    }
    answer = server.call("POST", "/api/v1/namespaces/default/limitranges", body, dryRun="All")
    assert answer.code == 201, answer.body
    return [answer.body["spec"]["limits"][0]["max"][name] for name in names]


def workload(server: ApiServer, spellings: list[str]) -> list[tuple[str, str]]:
    """Return how the server prints quantities as the memory of a container, and as the storage of a claim template."""
    containers = [
        {"name": f"c{number}", "image": "example", "resources": {"requests": {"memory": spelling}}}
        for number, spelling in enumerate(spellings)
    ]
    claims: list[dict[str, Any]] = [
        {
            "metadata": {"name": f"v{number}"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": spelling}}},
        }
        for number, spelling in enumerate(spellings)
    ]
    spec = {
        "serviceName": "quantities",
        "selector": {"matchLabels": {"app": "quantities"}},
        "template": {"metadata": {"labels": {"app": "quantities"}}, "spec": {"containers": containers}},
        "volumeClaimTemplates": claims,
    }
    body = {"metadata": {"name": "quantities"}, "spec": spec}
    answer = server.call("POST", "/apis/apps/v1/namespaces/default/statefulsets", body, dryRun="All")
    assert answer.code == 201, answer.body
    made = answer.body["spec"]
    return [
        (container["resources"]["requests"]["memory"], claim["spec"]["resources"]["requests"]["storage"])
        for container, claim in zip(made["template"]["spec"]["containers"], made["volumeClaimTemplates"], strict=True)
    ]


@pytest.mark.real
def test_server_prints_the_table(real_server):
    """The real server prints every quantity of the table as the table says."""
    assert dict(zip(PRINTED, limits(real_server, list(PRINTED)), strict=True)) == PRINTED
    assert limits(real_server, list(LEFT_ALONE)) == list(LEFT_ALONE)


@pytest.mark.real
def test_server_keeps_canonical_spellings(real_server):
    """The real server prints canonical spellings unchanged, in pod and claim templates too: they never look changed."""
    spellings = [canonical_quantity(text) for text in (*PRINTED, *LEFT_ALONE)]
    positive = [spelling for spelling in spellings if parse_quantity(spelling) > 0]

    assert limits(real_server, spellings) == spellings
    assert workload(real_server, positive) == [(spelling, spelling) for spelling in positive]


@pytest.mark.real
def test_server_agrees_on_amounts(real_server):
    """The real server reads the same amount, to a thousandth, out of any spelling as chronik does."""
    numbers = ("1", "0.5", "12.25", "999", "1024", "1048576", "123456.789", "0.001", "7.0000001", "100000")
    signed = [f"{sign}{number}{suffix}" for sign in ("", "-") for number in numbers for suffix in SUFFIXES]
    spellings = [text for text in signed if is_quantity(text)]

    printed = limits(real_server, spellings)

    assert len(spellings) > 300
    for text, theirs in zip(spellings, printed, strict=True):
        assert parse_quantity(theirs) == parse_quantity(canonical_quantity(text)), text
