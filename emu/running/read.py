"""Reading saved schedules, from a file or a token: as data only, which runs and imports nothing."""

import base64
import zlib
from pathlib import Path

import orjson

from emu.errors import ScenarioError, reason_of
from emu.running.save import FORMAT, TOKEN_PREFIX, SavedSchedule
from emu.running.strict import STRICT

BYTES_MAX = 64 << 20
TOKEN_MAX = 1 << 20


def read(text: str) -> SavedSchedule:
    """Read a schedule from a token or a file.

    Raises:
        ScenarioError: in one sentence, if it is none.
    """
    if text.startswith(TOKEN_PREFIX):
        return parse(unpack(text), "the token")
    path = Path(text)
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise ScenarioError(f"the schedule {text!r} cannot be read: {reason_of(error)}") from None
    if len(content) > BYTES_MAX:
        raise ScenarioError(f"{text!r} is larger than {BYTES_MAX >> 20} MiB: it is no schedule")
    return parse(content, repr(text))


def unpack(token: str) -> bytes:
    """Return the content of a token; never more than a file may hold.

    Raises:
        ScenarioError: if it is damaged.
    """
    body = token.removeprefix(TOKEN_PREFIX)
    if len(body) > TOKEN_MAX:
        raise ScenarioError(f"the token is longer than {TOKEN_MAX >> 20} MiB: use the file")
    try:
        packed = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(packed, BYTES_MAX)
    except (ValueError, zlib.error):
        raise ScenarioError("the token is damaged: copy it again, whole") from None
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise ScenarioError("the token is damaged: copy it again, whole")
    return content


def parse(content: bytes, name: str) -> SavedSchedule:
    """Turn bytes into a schedule.

    Raises:
        ScenarioError: naming where it came from.
    """
    try:
        saved = STRICT.structure(orjson.loads(content), SavedSchedule)
    except Exception as error:  # noqa: BLE001 - cattrs raises many kinds; each means that it is no schedule
        raise ScenarioError(f"{name} is no schedule: {type(error).__name__} while reading it") from None
    if saved.format != FORMAT:
        raise ScenarioError(f"{name} is a schedule of another version of emu: its format is not {FORMAT!r}")
    saved.schedule()
    return saved
