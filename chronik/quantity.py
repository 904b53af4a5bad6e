"""Kubernetes quantities as exact numbers: `500m`, `2`, `1.5Gi`, `1e3`; and durations of documents as seconds.

Source: k8s.io/apimachinery/pkg/api/resource. Comparing by amount is what keeps `1024Mi` and `1Gi` from looking like a
change, lets rules compare them, and gives manifests one spelling.
"""

from __future__ import annotations

import re
from decimal import ROUND_UP, Context, Decimal
from functools import lru_cache

_GRAMMAR = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?", re.ASCII)
_EXPONENT = re.compile(r"[eE][+-]?\d", re.ASCII)
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIX = {power: suffix for suffix, power in _DECIMAL.items()}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
"""Seconds of each unit of a duration."""
_MAX = Decimal(2**63 - 1)
_NANO, _MILLI = Decimal("1e-9"), Decimal("1e-3")
_MAX_LENGTH = 64  # longer spellings name no amount that a cluster has, and Decimal is slow on them
_MAX_EXPONENT = 99
_EXACT = Context(prec=2 * _MAX_LENGTH + _MAX_EXPONENT)  # no digit of any spelling is lost


class QuantityError(ValueError):
    """The text is not a Kubernetes quantity."""


class QuantityRangeError(QuantityError):
    """The text is a quantity, but one beyond what the API server can count."""


@lru_cache(maxsize=4096, typed=True)
def parse_quantity(text: str | int) -> Decimal:
    """Return the amount that a quantity names; fractions of a nano round away from zero, as the server does.

    Raises:
        QuantityError: the text is no quantity.
        QuantityRangeError: it is one beyond 2^63-1. The server caps some of those and prints others as another amount.
    """
    spelled = str(text)
    match = _GRAMMAR.fullmatch(spelled) if len(spelled) <= _MAX_LENGTH else None
    if match is None:
        raise QuantityError(f"{spelled[:40]!r} is not a quantity such as 500m, 2, 1.5Gi or 10G")
    number, suffix = Decimal(match[1]), match[2] or ""
    if suffix in _BINARY:
        amount = _EXACT.multiply(number, Decimal(1024 ** _BINARY[suffix]))
    else:
        exponent = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
        amount = number.scaleb(max(-_MAX_EXPONENT, min(_MAX_EXPONENT, exponent)), context=_EXACT)
    if amount.copy_abs() > _MAX:
        raise QuantityRangeError(f"{spelled} is more than the API server can count, which is 2^63-1")
    return amount.quantize(_NANO, rounding=ROUND_UP, context=_EXACT)


def canonical_quantity(value: str | int) -> str:
    """Spell a quantity as the API server prints it: whole number, largest suffix that loses nothing, same base.

    Fractions of a thousandth round away from zero, as the server rounds every resource. A few odd spellings (`+1`,
    `1.500`) it leaves alone; what this returns it always prints unchanged.

    Examples:
        >>> [canonical_quantity(spelling) for spelling in ("1024Mi", "0.5", "1.5Gi", "1000m")]
        ['1Gi', '500m', '1536Mi', '1']
    """
    spelled = str(value)
    amount = parse_quantity(spelled).quantize(_MILLI, rounding=ROUND_UP)
    if spelled[-1:] == "i" and amount.copy_abs() >= 1024 and amount == amount.to_integral_value():  # noqa: PLR2004  # 1Ki
        return _with_binary_suffix(int(amount))
    return _with_decimal_suffix(amount, exponent_style=bool(_EXPONENT.search(spelled)))


def _with_binary_suffix(amount: int) -> str:
    for suffix, power in reversed(_BINARY.items()):
        if amount % 1024**power == 0:
            return f"{amount // 1024**power}{suffix}"
    return str(amount)


def _with_decimal_suffix(amount: Decimal, *, exponent_style: bool) -> str:
    for power in sorted(_DECIMAL_SUFFIX, reverse=True):
        scaled = amount.scaleb(-power)
        if amount and scaled == scaled.to_integral_value():
            suffix = _DECIMAL_SUFFIX[power]
            return f"{int(scaled)}e{power}" if exponent_style and power else f"{int(scaled)}{suffix}"
    return "0"


def seconds_of(duration: str) -> int:
    """Return how many seconds a duration of a document is: `30s`, `10m`, `2h` or `7d`."""
    return int(duration[:-1]) * _UNITS[duration[-1]]
