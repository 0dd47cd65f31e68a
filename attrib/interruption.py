"""Ctrl-C: one line and exit code 130, wherever it is met.

The interpreter reports it as a traceback while modules are imported, in destructors and in threads
that end; `raise_everywhere` and `leave` mend that. Nothing heavy is imported here.
"""

import signal
import sys
from typing import NoReturn

EXIT_INTERRUPTED = 130
INTERRUPTED = "Interrupted. What was stored is kept; the same command continues from there."


def raise_everywhere() -> None:
    """Deliver a Ctrl-C again that came where nothing can be raised, such as in a destructor."""
    sys.unraisablehook = _raise_again


def leave() -> NoReturn:
    """Say so and exit; further Ctrl-Cs do not disturb the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(INTERRUPTED, file=sys.stderr, flush=True)
    sys.exit(EXIT_INTERRUPTED)


def _raise_again(problem: "sys.UnraisableHookArgs") -> None:
    if isinstance(problem.exc_value, KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    else:
        sys.__unraisablehook__(problem)
