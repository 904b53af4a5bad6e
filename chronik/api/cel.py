"""The functions that Kubernetes adds to CEL, as far as our rules use them, with the API server's semantics.

Quantities and networks travel through an expression as bytes that spell them in one way: this runtime has no types of
our own, and rules do no more with bytes than count them, so that mixing them up with text fails, as it does on the
server. tests/api/test_server_agrees.py holds it to the server.

Source: k8s.io/apiserver/pkg/cel/library/quantity.go, cidr.go and lists.go.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

from cel_expr_python import cel

from chronik.quantity import QuantityRangeError, parse_quantity

if TYPE_CHECKING:
    from ipaddress import IPv4Interface, IPv6Interface

_ENDLESS = Decimal("Infinity")
_PREFIX_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}")


@cache
def environment() -> cel.Env:
    """Return the CEL environment that rules are compiled in: `self`, `oldSelf`, and Kubernetes' functions."""
    text, opaque, dyn = cel.Type.STRING, cel.Type.BYTES, cel.Type.DYN
    return cel.NewEnv(
        variables={"self": dyn, "oldSelf": dyn},
        functions=[
            _function("quantity", [text], opaque, _quantity),
            _function("compareTo", [opaque, opaque], cel.Type.INT, _compare, member=True),
            _function("isCIDR", [text], cel.Type.BOOL, _is_cidr),
            _function("cidr", [text], opaque, _cidr),
            _function("containsCIDR", [opaque, text], cel.Type.BOOL, _contains_cidr, member=True),
            _function("masked", [opaque], opaque, _masked, member=True),
            _function("sum", [cel.Type.List(cel.Type.INT)], cel.Type.INT, sum, member=True),
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


def _parsed_cidr(text: str) -> IPv4Interface | IPv6Interface | None:
    """Read a network as Go's netip.ParsePrefix does; IPv4 inside IPv6 is refused, as in CEL. None if it is none."""
    from ipaddress import ip_address, ip_interface  # noqa: PLC0415  # few documents name networks

    address, slash, bits = text.rpartition("/")
    if not slash or "%" in address or not _PREFIX_LENGTH.fullmatch(bits):
        return None
    try:
        parsed = ip_address(address)
        mapped = getattr(parsed, "ipv4_mapped", None)
        return None if mapped else ip_interface(f"{parsed}/{bits}")
    except ValueError:
        return None


def _is_cidr(text: str) -> bool:
    return _parsed_cidr(text) is not None


def _cidr(text: str) -> bytes:
    parsed = _parsed_cidr(text)
    if parsed is None:
        raise ValueError(f"{text} is not a network in CIDR notation")
    return str(parsed).encode()


def _masked(cidr: bytes) -> bytes:
    from ipaddress import ip_interface  # noqa: PLC0415  # as above

    return str(ip_interface(cidr.decode()).network).encode()


def _contains_cidr(outer: bytes, inner: str) -> bool:
    from ipaddress import ip_interface  # noqa: PLC0415  # as above

    whole, part = ip_interface(outer.decode()).network, ip_interface(_cidr(inner).decode()).network
    return whole.version == part.version and part.subnet_of(whole)  # type: ignore[arg-type]  # of the same version
