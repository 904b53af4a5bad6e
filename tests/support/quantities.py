"""Is it a quantity? For stand-ins of the API server, which have to know; chronik itself always needs the amount."""

from __future__ import annotations

from chronik.quantity import QuantityError, parse_quantity


def is_quantity(value: str | int) -> bool:
    """Say whether a value is a quantity."""
    try:
        parse_quantity(value)
    except QuantityError:
        return False
    return True
