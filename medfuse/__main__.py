"""`python -m medfuse`, and the `medfuse` command: errors a user can mend become one sentence and an exit
code."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper


def main() -> None:
    """Run the command; a UserError becomes one sentence on stderr and its exit code, and so does a fault of
    the machine."""
    from .cli import app
    from .errors import UserError

    # processes that this one starts import nothing from the current folder, which may be a stranger's study
    os.environ["PYTHONSAFEPATH"] = "1"
    if isinstance(sys.stdout, TextIOWrapper):  # a file's name may hold bytes that are no UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except UserError as e:
        from .io.cells import harmless_text

        print(harmless_text(f"medfuse: {e}"), file=sys.stderr)
        sys.exit(e.exit_code)
    except KeyboardInterrupt:
        print("medfuse: stopped", file=sys.stderr)
        sys.exit(130)
    except Exception as e:
        from .faults import fault_sentence
        from .settings import Settings

        why = fault_sentence(e, Settings().database)
        if why is None:
            raise
        print(f"medfuse: {why}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
