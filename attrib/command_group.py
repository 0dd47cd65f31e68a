"""What goes around every command: errors and interruptions become one line and an exit code.

0 is done, 1 an error, 2 misuse, 130 an interruption. A traceback is shown where `ATTRIB_DEBUG` is
set, and never otherwise.
"""

import os
import sys
import traceback
from typing import Any, NoReturn

from typer.core import TyperGroup
from typer.exceptions import TyperException

from attrib.errors import AttribError, first_line
from attrib.interruption import EXIT_INTERRUPTED, is_interruption, leave
from attrib.progress import complain

EXIT_ERROR = 1
DEBUG = "ATTRIB_DEBUG"


class CommandGroup(TyperGroup):
    """The commands of attrib."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run the command that is named and exit."""
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # a panic of polars is no Exception
            code = EXIT_INTERRUPTED if is_interruption(error) else _explain(error)
        if code == EXIT_INTERRUPTED:
            leave()
        sys.exit(code if isinstance(code, int) else 0)


def _explain(error: BaseException) -> int:
    """Say what went wrong, in one line, and return the exit code."""
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    if isinstance(error, TyperException):
        return _explain_misuse(error)
    if isinstance(error, AttribError):
        message = str(error)
    elif isinstance(error, OSError):
        message = f"{first_line(error)}."
    elif isinstance(error, MemoryError):
        message = "Out of memory. Smaller: --n, --limit, --max-live-nodes, --tokens-at-once."
    else:
        message = (
            f"{type(error).__name__}: {first_line(error)}. This is a fault of attrib; "
            f"{DEBUG}=1 shows where it is."
        )
    complain(f"Error: {_flatten(message)}")
    return EXIT_ERROR


def _explain_misuse(error: TyperException) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        complain(error.message)  # the help itself
    else:
        hint = f" Type: {context.command_path} --help" if context is not None else ""
        message = _flatten(error.format_message())
        complain(f"Error: {message}{'' if message.endswith(('.', '?')) else '.'}{hint}")
    return error.exit_code


def _flatten(message: str) -> str:
    """Return a message in one line that a terminal only shows, whatever it quotes."""
    return "".join(c if c.isprintable() else "�" for c in " ".join(message.split()))
