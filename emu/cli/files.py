"""Opening the files that the command line names."""

from pathlib import Path
from typing import BinaryIO, Literal

import click


def open_log_file(path: str, mode: Literal["rb", "wb"]) -> BinaryIO:
    """Open a log.

    Raises:
        click.UsageError: naming the file and why it cannot be read or written.
    """
    try:
        return Path(path).open(mode)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise click.UsageError(
            f"the log {path!r} cannot be {'read' if mode == 'rb' else 'written'}: {reason}"
        ) from None
