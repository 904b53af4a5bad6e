"""The `chronik` command: `python -m chronik` and the console script both start here."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    gc.set_threshold(100_000)  # start-up makes no cycles worth a tenth of its time, which looking for them takes
    try:
        from chronik.cli.main import run  # noqa: PLC0415  # after that
        from chronik.cli.streams import open_streams  # noqa: PLC0415

        open_streams()
        code = run(sys.argv[1:])
    except SystemExit:
        raise
    except KeyboardInterrupt:  # while it was being loaded
        code = 130
    except BaseException:  # noqa: BLE001  # what reports errors failed itself, or is missing; 1 would mean that a diff differs
        import traceback  # noqa: PLC0415  # needed only then

        traceback.print_exc()
        code = 70
    gc.freeze()  # or the collection at exit walks through all that was imported, for a seventh of a render's time
    sys.exit(code)


if __name__ == "__main__":
    main()
