"""Where the program `attrib` begins: Ctrl-C is looked after before anything heavy is imported."""

import os
import sys

from attrib.interruption import EXIT_INTERRUPTED, leave, raise_everywhere


def main() -> None:
    """Run the command line."""
    raise_everywhere()
    try:
        try:
            from attrib.cli import app

            app(prog_name="attrib")
        except KeyboardInterrupt:
            leave()
    except SystemExit as end:
        if end.code == EXIT_INTERRUPTED:  # libraries would disturb the end, or the exit code
            sys.stdout.flush()
            os._exit(EXIT_INTERRUPTED)
        raise


if __name__ == "__main__":
    main()
