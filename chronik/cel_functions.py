"""The functions that Kubernetes adds to CEL, as far as our rules use them, with the API server's semantics.

A quantity travels through an expression as bytes that spell its exact amount: CEL has no type for it here, and no rule
does anything with bytes, so that a comparison with anything but a quantity fails, as it does on the server. `rules`
calls this. tests/test_server_agrees.py holds it to the server.

Source: k8s.io/apiserver/pkg/cel/library/quantity.go and cidr.go.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache

from cel_expr_python import cel

from chronik.quantity import QuantityRangeError, parse_quantity

_ENDLESS = Decimal("Infinity")
_LONGEST_IPV4, _LONGEST_IPV6 = 32, 128


@cache
def environment() -> cel.Env:
    """Return the CEL environment that rules are compiled in: `self`, `oldSelf`, and Kubernetes' functions."""
    text, quantity, dyn = cel.Type.STRING, cel.Type.BYTES, cel.Type.DYN
    return cel.NewEnv(
        variables={"self": dyn, "oldSelf": dyn},
        functions=[
            _function("quantity", [text], quantity, _quantity),
            _function("compareTo", [quantity, quantity], cel.Type.INT, _compare, member=True),
            _function("isCIDR", [text], cel.Type.BOOL, is_cidr),
            _function(
                "replace", [text, text, text], text, str.replace, member=True
            ),  # the strings extension loads 5 ms
        ],
    )


def _function(
    name: str, parameters: list[cel.Type], returns: cel.Type, implementation: object, *, member: bool = False
) -> cel.FunctionDecl:
    overload = cel.Overload(f"kubernetes_{name}", returns, parameters, member, implementation)
    return cel.FunctionDecl(name, [overload])


def _quantity(text: str) -> bytes:
    try:
        amount = parse_quantity(text).normalize()
    except QuantityRangeError:  # rules draw their own line, well below
        amount = _ENDLESS.copy_sign(Decimal(-1 if text.startswith("-") else 1))
    return str(amount).encode()


def _compare(left: bytes, right: bytes) -> int:
    first, second = Decimal(left.decode()), Decimal(right.decode())
    return (first > second) - (first < second)


def is_cidr(text: str) -> bool:
    """Say whether a text is a network as Go's netip.ParsePrefix reads it; IPv4 inside IPv6 is refused, as in CEL.

    Bits behind the prefix may be set.
    """
    from ipaddress import IPv6Address, ip_address  # noqa: PLC0415  # few documents name networks

    address, slash, bits = text.rpartition("/")
    if not slash or "%" in address or not (bits.isascii() and bits.isdigit()) or (bits[0] == "0" and bits != "0"):
        return False
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address):
        return parsed.ipv4_mapped is None and int(bits[:4]) <= _LONGEST_IPV6
    return int(bits[:4]) <= _LONGEST_IPV4
