"""Ctrl-C: one line and exit code 130, wherever it is met.

The interpreter reports it as a traceback while modules are imported, in destructors and in threads
that end; `raise_everywhere` and `leave` mend that. Nothing heavy is imported here.
"""

import _thread
import signal
import sys
import threading
from typing import NoReturn

EXIT_INTERRUPTED = 130
SECONDS_BEFORE_NEXT_TRY = 0.05
INTERRUPTED = "Interrupted. What was stored is kept; the same command continues from there."


def raise_everywhere() -> None:
    """Deliver a Ctrl-C again that came where nothing can be raised, such as in a destructor."""
    sys.unraisablehook = _raise_again


def is_interruption(error: BaseException) -> bool:
    """Tell whether an error is what somebody made of a Ctrl-C, as libraries do on import."""
    earlier: BaseException | None = error
    while earlier is not None:
        if isinstance(earlier, KeyboardInterrupt) or "KeyboardInterrupt" in str(earlier):
            return True  # polars only quotes it
        earlier = earlier.__cause__ or earlier.__context__
    return False


def leave() -> NoReturn:
    """Say so and exit; further Ctrl-Cs do not disturb the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(INTERRUPTED, file=sys.stderr, flush=True)
    sys.exit(EXIT_INTERRUPTED)


def _raise_again(problem: "sys.UnraisableHookArgs") -> None:
    if isinstance(problem.exc_value, KeyboardInterrupt):  # raised here, it would be lost again
        threading.Timer(SECONDS_BEFORE_NEXT_TRY, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(problem)
