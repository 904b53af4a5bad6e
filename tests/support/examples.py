"""How many examples the tests of properties try: some in each run, many with `--hypothesis-profile thorough`."""

from __future__ import annotations

from hypothesis import settings

USUAL = 100
"""What Hypothesis tries by itself, and what the numbers in tests are made for."""


def examples(usual: int) -> int:
    """Return how many examples a test tries, of which the usual number is given, under the profile in force."""
    return max(1, usual * settings.default.max_examples // USUAL)
