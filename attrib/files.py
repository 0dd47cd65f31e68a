"""Files that commands write: each appears whole or not at all, whatever interrupts the writing.

`-` stands for stdout, as with other tools.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from attrib.errors import ConfigError

STDOUT = Path("-")
"""What `./-` is as well; a file of that name is reached by its whole path."""


@contextmanager
def writing_to(output: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `output` once the block is done, or stdout.

    What a kill leaves beside it, the next time writes over.

    Raises:
        ConfigError: it cannot be written.
    """
    if output == STDOUT:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    is_special = output.exists() and not output.is_file()  # such as /dev/stdout
    target = output if is_special else output.with_name(f"{output.name}.partial")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as stream:
            yield stream
        if not is_special:
            os.replace(target, output)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(
            f"{output} cannot be written: {reason}. Choose another --output."
        ) from error
    finally:
        if not is_special:
            with suppress(OSError):
                target.unlink()


def refuse_study(output: Path, study: Path) -> None:
    """Refuse to write over the study that is read.

    Raises:
        ConfigError: the file is the study.
    """
    if output.exists() and study.exists() and output.samefile(study):
        raise ConfigError(f"{output} is the study itself. Name another file.")
