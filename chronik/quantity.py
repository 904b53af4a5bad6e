"""Kubernetes quantities as exact numbers: `500m`, `2`, `1.5Gi`, `1e3`.

Source: k8s.io/apimachinery/pkg/api/resource. Comparing by amount is what keeps `1024Mi` and `1Gi` from looking like a
change (`ownership`), lets rules compare them (`rules`), and gives manifests one spelling (`render`).
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache

_GRAMMAR = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?", re.ASCII)
_EXPONENT = re.compile(r"[eE][+-]?\d", re.ASCII)
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIX = {power: suffix for suffix, power in _DECIMAL.items()}
_MAX = Decimal(2**63 - 1)
_NANO = Decimal("1e-9")
_MAX_LENGTH = 64  # longer spellings name no amount that a cluster has, and Decimal is slow on them


class QuantityError(ValueError):
    """The text is not a Kubernetes quantity."""


@lru_cache(maxsize=4096)
def parse_quantity(text: str | int) -> Decimal:
    """Return the amount that a quantity names.

    Fractions below one nano round up and amounts are capped at 2^63-1, as the server does.

    Raises:
        QuantityError: the text is no quantity.
    """
    spelled = str(text)
    match = _GRAMMAR.fullmatch(spelled) if len(spelled) <= _MAX_LENGTH else None
    if match is None:
        raise QuantityError(f"{spelled[:40]!r} is not a quantity such as 500m, 2, 1.5Gi or 10G")
    number, suffix = Decimal(match[1]), match[2] or ""
    if suffix in _BINARY:
        amount = number * Decimal(1024 ** _BINARY[suffix])
    else:
        exponent = _DECIMAL[suffix] if suffix in _DECIMAL else max(-99, min(99, int(suffix[1:])))
        amount = number.scaleb(exponent)
    amount = amount.quantize(_NANO, rounding=ROUND_CEILING) if amount.copy_abs() < _MAX else amount
    return max(-_MAX, min(_MAX, amount))


def is_quantity(value: str | int) -> bool:
    """Say whether a value is a quantity."""
    try:
        parse_quantity(value)
    except QuantityError:
        return False
    return True


def canonical_quantity(value: str | int) -> str:
    """Spell a quantity as the API server prints it: whole number, largest suffix that loses nothing, same base.

    Examples:
        >>> [canonical_quantity(spelling) for spelling in ("1024Mi", "0.5", "1.5Gi", "1000m")]
        ['1Gi', '500m', '1536Mi', '1']
    """
    spelled = str(value)
    amount = parse_quantity(spelled)
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
