"""Reading a file that a user names: only a regular file, and only up to a limit for its kind."""

import stat
from pathlib import Path

from emu.errors import ScenarioError, reason_of


def read_bounded(path: str | Path, bytes_max: int, what: str) -> bytes:
    """Return the content of a file.

    Args:
        what: names the file in the sentence, such as "the schedule".

    Raises:
        ScenarioError: if it cannot be read, is a folder, a pipe or a device, or is larger than the limit.
    """
    name = f"{what} {str(path)!r}"
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise ScenarioError(f"{name} is no regular file: name a file, not a folder, a pipe or a device")
        with Path(path).open("rb") as file:
            content = file.read(bytes_max + 1)
    except (OSError, ValueError) as error:
        raise ScenarioError(f"{name} cannot be read: {reason_of(error)}") from None
    if len(content) > bytes_max:
        raise ScenarioError(f"{name} is larger than {size(bytes_max)}, the most that emu reads")
    return content


def size(number: int) -> str:
    """Return a number of bytes, a power of two, as people write it."""
    return f"{number >> 20} MiB" if number >= 1 << 20 else f"{number >> 10} KiB"
