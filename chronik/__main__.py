"""The `chronik` command: `python -m chronik` and the console script both start here."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from chronik.cli import run  # noqa: PLC0415  # a start-up failure is reported by run, an import error by Python

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
