"""`python -m medfuse`, and the `medfuse` command: errors a user can mend become one sentence and an exit code."""

from __future__ import annotations

import sys


def main() -> None:
    from .cli import app
    from .errors import UserError

    try:
        app()
    except UserError as e:
        print(f"medfuse: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
    except KeyboardInterrupt:
        print("medfuse: stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
