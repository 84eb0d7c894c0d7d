"""The values that change from step to step: locks, flags, entries, and what units have cached and have to do."""

from collections.abc import Iterator
from typing import Any

import attrs

from emu.reports.filters import pages_of
from emu.reports.key_types import value_in
from emu.reports.recorded import NUMBER_MAX, Event, Recorded, is_number, number_of, text_of
from emu.reports.spans import FLAG, spans

WORD_MAX = (1 << 64) - 1
FREE = "free"
CACHED_MAX = 1_000
"""Of how many pages it is told whether they are cached: the first ones."""
DROPPING = frozenset({"iotlb.invalidate", "iotlb.evict"})


@attrs.frozen
class Signal:
    """A value over the steps.

    Attributes:
        scope: the agent that it belongs to, or the sort of it.
        kind: text, bit, count or word.
        values: the value from each step on at which it changes; None where the log does not tell it.
    """

    scope: str
    name: str
    kind: str
    values: dict[int, Any] = attrs.field(factory=dict)


def signals(recorded: Recorded) -> list[Signal]:
    """Return the signals of an execution."""
    return [one for part in (agents, owners, flags, pending, entries, cached) for one in part(recorded) if one.values]


def agents(recorded: Recorded) -> Iterator[Signal]:
    """Yield who takes each step."""
    yield Signal("execution", "agent", "text", {event.step: event.agent for event in recorded.events if event.step})


def owners(recorded: Recorded) -> Iterator[Signal]:
    """Yield who holds each lock."""
    found: dict[str, Signal] = {}
    for span in spans(recorded):
        if span.sort == "held":
            values = found.setdefault(span.name, Signal("locks", span.name, "text", {0: FREE})).values
            values[span.first] = span.agent
            if not span.is_open:
                values[span.last] = FREE
    yield from found.values()


def flags(recorded: Recorded) -> Iterator[Signal]:
    """Yield whether each CPU puts its flushes off."""
    found = {one.agent: Signal(one.agent, FLAG, "bit", {0: 0}) for one in recorded.events if one.kind == "cpu"}
    for span in spans(recorded):
        if span.sort == "flag" and span.agent in found:
            found[span.agent].values[span.first] = 1
            if not span.is_open:
                found[span.agent].values[span.last] = 0
    yield from found.values()


def pending(recorded: Recorded) -> Iterator[Signal]:
    """Yield how many invalidations each unit has been given and has not completed; a wait descriptor is none."""
    begun = {slot_of(event) for event in recorded.events if event.name == "invalidate.begin"}
    fetched = [event for event in recorded.events if event.name == "queue.fetch"]
    waits = {slot_of(event) for event in fetched if event.record.get("descriptor") == "wait"}
    found: dict[str, Signal] = {}
    left: dict[str, set[tuple[str, int | None]]] = {}
    for event in recorded.events:
        unit, slot = slot_of(event)
        mine = left.setdefault(unit, set())
        before = len(mine)
        if event.name == "queue.post" and (unit, slot) not in waits:
            mine.add(("posted", slot))
        elif event.name == "queue.fetch" and (unit, slot) not in begun:
            mine.discard(("posted", slot))
        elif event.name == "invalidate.begin":
            mine.discard(("posted", slot))
            mine.add(("began", event.step))
        elif is_complete(event):
            mine.discard(("began", number_of(event.record, "began")))
        if len(mine) != before:
            signal = found.setdefault(unit, Signal(unit, "pending_invalidations", "count", {0: 0}))
            signal.values[event.step] = len(mine)
    yield from found.values()


def slot_of(event: Event) -> tuple[str, int | None]:
    """Return the unit and the slot that an event is about."""
    return text_of(event.record.get("iommu")), number_of(event.record, "slot")


def is_complete(event: Event) -> bool:
    """Whether an invalidation has completed; one of a device's entry has when it need not drain anything."""
    if event.name == "device_entry.invalidate":
        return event.record.get("draining") == 0
    return event.name in {"invalidate.complete", "context.invalidate", "device_entry.complete"}


def entries(recorded: Recorded) -> Iterator[Signal]:
    """Yield the word of each page-table entry that changes."""
    found: dict[tuple[int | None, ...], Signal] = {}
    for event in recorded.events:
        if event.name not in {"pte.write", "pte.clear"}:
            continue
        record = event.record
        domain, dfn, level = place = tuple(number_of(record, key) for key in ("domain", "dfn", "table_level"))
        name = f"d{domain}_{dfn or 0:#x}_level{level}"
        signal = found.setdefault(place, Signal("entries", name, "word", {0: word_of(record.get("old"))}))
        signal.values[event.step] = word_of(record.get("value"))
    yield from found.values()


def word_of(value: Any) -> int | None:
    """Return a word of 64 bits; None for anything else."""
    return value if is_number(value, WORD_MAX) else None


def cached(recorded: Recorded) -> Iterator[Signal]:
    """Yield whether each unit has the translation of each page cached, by tag; unknown until the log tells it."""
    found: dict[tuple[str, int, int], Signal] = {}
    held: dict[tuple[str, int, int], tuple[int, int]] = {}
    for event in recorded.events:
        unit, record = text_of(event.record.get("iommu")), event.record
        dfn, tag = number_of(record, "dfn"), number_of(record, "tag")
        if event.name in DROPPING or "evicted_dfn" in record:
            for key in [one for one, pages in held.items() if one[0] == unit and drops(event, one[1], pages)]:
                found[key].values[event.step] = 0
                del held[key]
        if event.name in {"iotlb.hit", "iotlb.fill"} and dfn is not None and tag is not None:
            key, is_fill = (unit, tag, dfn), event.name == "iotlb.fill"
            if key not in found and len(found) == CACHED_MAX:
                continue
            new = Signal(unit, f"iotlb_tag{tag}_{dfn:#x}", "bit", {0: 0 if is_fill else None})
            found.setdefault(key, new).values[event.step] = 1
            if is_fill or key not in held:
                held[key] = pages_of(record) or (dfn, 1)
    yield from found.values()


def drops(event: Event, tag: int, pages: tuple[int, int]) -> bool:
    """Whether an event of a unit drops what it has cached of pages under a tag: a superpage as a whole."""
    record, (first, count) = event.record, pages
    match event.name:
        case "iotlb.invalidate":
            covered = pages_of(record)
            is_reached = covered is None or (covered[0] < first + count and first < sum(covered))
            return value_in(record, "tag") in ("all", tag) and is_reached
        case "iotlb.evict":
            return is_number(record.get("dfn"), NUMBER_MAX) and first <= record["dfn"] < first + count
        case _:
            return record.get("evicted_dfn") == first
