"""The `chronik` command: `python -m chronik` and the console script both start here."""

from __future__ import annotations

import sys

from chronik.cli.startup import collect_rarely, skip_last_collection


def main() -> None:
    """Run the command line and exit with its code."""
    collect_rarely()
    from chronik.cli.main import run  # noqa: PLC0415  # after that

    code = run(sys.argv[1:])
    skip_last_collection()
    sys.exit(code)


if __name__ == "__main__":
    main()
