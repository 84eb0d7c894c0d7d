"""Reading saved schedules, from a file or a token: as data only, which runs and imports nothing."""

import base64
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import cattrs
import orjson

from emu.errors import ScenarioError
from emu.files.bounded import read_bounded
from emu.running.save import BYTES_MAX, FORMAT, STEPS_MAX, TOKEN_MAX, TOKEN_PREFIX, SavedSchedule
from emu.running.shrink import Shortened
from emu.running.strict import STRICT

NEEDS_MAX, TEXT_MAX = 100, 1_000
"""How many orders of steps a file may name, and how long each text may be."""


def read(text: str) -> SavedSchedule:
    """Read a schedule from a token or a file.

    Raises:
        ScenarioError: in one sentence, if the text is no schedule.
    """
    if text.startswith(TOKEN_PREFIX):
        return parse(unpack(text), "the token")
    return parse(read_bounded(text, BYTES_MAX, "the schedule"), repr(text))


def unpack(token: str) -> bytes:
    """Return the content of a token, at most as much as a file may hold.

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
    """Parse a schedule.

    Args:
        name: names its source in a sentence.

    Raises:
        ScenarioError: naming the source, if the content is no schedule.
    """
    try:
        saved = STRICT.structure(orjson.loads(content), SavedSchedule)
    except Exception as error:  # noqa: BLE001 - cattrs raises many kinds; each means that it is no schedule
        raise ScenarioError(f"{name} is no schedule: {type(error).__name__} while reading it") from None
    if saved.format != FORMAT:
        raise ScenarioError(f"{name} is a schedule of another version of emu: its format is not {FORMAT!r}")
    if not saved.scenario.name.isidentifier():
        raise ScenarioError(f"{name} is no schedule: {saved.scenario.name[:80]!r} is no name of a scenario")
    if not all(one.isprintable() for one in texts_of(cattrs.unstructure(saved))):
        raise ScenarioError(f"{name} is no schedule: it holds characters that cannot be printed")
    if saved.shortened is not None and not is_plausible(saved.shortened):
        raise ScenarioError(f"{name} is no schedule: what it says of its preemptions cannot be")
    saved.schedule()
    return saved


def is_plausible(known: Shortened) -> bool:
    """Whether what a file says of its schedule lies within bounds."""
    numbers = (known.preemptions, known.found_with or 0, *(place for one in known.needs for _, place in one.places))
    texts = (known.cut_by, *(one.text for one in known.needs))
    return (
        len(known.needs) <= NEEDS_MAX
        and all(0 <= number <= STEPS_MAX for number in numbers)
        and all(len(text) <= TEXT_MAX for text in texts)
    )


def texts_of(data: Any) -> Iterator[str]:
    """Yield all texts in JSON data."""
    match data:
        case str():
            yield data
        case Mapping():
            yield from texts_of([*data, *data.values()])
        case list() | tuple():
            for one in data:
                yield from texts_of(one)
