"""A timeline as plain data. A page only draws it: what is computed is computed here."""

from collections.abc import Iterator
from typing import Any

from emu.reports.filters import pages_of
from emu.reports.log import ORDER, Record
from emu.reports.recorded import NUMBER_MAX, Event, Recorded, is_number, message_of, number_of, text_of
from emu.reports.spans import Span, spans
from emu.reports.timeline.lanes import Lane, lanes
from emu.reports.vocabulary import EVENTS

TIMELINE_FORMAT = "emu-timeline-1"

SORTS = {
    "change": (
        "pte.write",
        "pte.clear",
        "context.write",
        "device_entry.write",
        "stream.write",
        "p2m.write",
        "paging.write",
    ),
    "flush": ("queue", "flush", "invalidate", "iotlb.invalidate", "context.invalidate", "device_entry.invalidate"),
    "access": ("dma",),
    "lock": ("lock",),
    "call": ("call", "hypercall", "softirq"),
}
"""The events that a page marks alike: names, or beginnings of names. All others are of the sort "other"."""

UNSHOWN = frozenset({"event", "level", "execution", "step", "after", "agent", "cpu"})
"""Keys of an event that its line tells already."""


def timeline(recorded: Recorded) -> dict[str, Any]:
    """Return the timeline of an execution."""
    shown = lanes(recorded, spans(recorded))
    numbers = {(lane.kind, lane.name): number for number, lane in enumerate(shown)}
    findings = [(finding, recorded.steps_of(finding)) for finding in recorded.findings]
    marked = {step for _, steps in findings for step in steps}
    header = recorded.header
    parameters = header.get("parameters")
    order = Order(recorded.events)
    return {
        "format": TIMELINE_FORMAT,
        "scenario": text_of(header.get("scenario", "an execution")),
        "parameters": [text_of(one) for one in parameters] if isinstance(parameters, list | tuple) else [],
        "strategy": text_of(header.get("strategy", "")),
        "seed": text_of(header.get("seed", "")),
        "last": recorded.last,
        "lanes": [{"kind": lane.kind, "name": lane.name, "rows": lane.rows} for lane in shown],
        "events": [
            {
                **event_data(event),
                "lane": numbers[event.kind, event.agent],
                "marked": event.step in marked,
                "after": order.after(event),
                "before": order.before(event),
            }
            for event in recorded.events
        ],
        "spans": list(spans_data(shown, marked)),
        "findings": [{"message": message_of(one), "steps": steps, **scope(one)} for one, steps in findings],
        "meanings": {name: EVENTS[name] for name in sorted({event.name for event in recorded.events} & set(EVENTS))},
    }


def event_data(event: Event) -> dict[str, Any]:
    """Return what a page shows of an event by itself."""
    keys = sorted(event.record, key=lambda key: (ORDER.get(key, len(ORDER)), key))
    shown = [[text_of(key), text_of(event.record[key], key)] for key in keys if key not in UNSHOWN]
    return {"step": event.step, "name": event.name, "sort": sort_of(event.name), "keys": shown, **scope(event.record)}


def sort_of(name: str) -> str:
    """Return the sort of an event."""
    for sort, names in SORTS.items():
        if name in names or name.partition(".")[0] in names:
            return sort
    return "other"


def scope(record: Record) -> dict[str, Any]:
    """Return what a filter asks of a record: its domain, and its first page with the number of pages."""
    pages = pages_of(record)
    first, count = (None, 0) if pages is None else pages
    return {
        "domain": number_of(record, "domain"),
        "pages": [first, min(count, NUMBER_MAX)] if is_number(first, NUMBER_MAX) else None,
    }


def spans_data(shown: list[Lane], marked: set[int]) -> Iterator[dict[str, Any]]:
    """Yield the spans of all lanes."""
    for number, lane in enumerate(shown):
        for row, span in lane.spans:
            yield {
                "sort": span.sort,
                "lane": number,
                "row": row,
                "first": span.first,
                "last": span.last,
                "open": span.is_open,
                "marked": span.sort == "window" and span.first in marked and (span.is_open or span.last in marked),
                "name": span.name,
                "note": note(span),
                **scope(span.record),
            }


def note(span: Span) -> str:
    """Say what a span is."""
    ends = f"from step {span.first} on" if span.is_open else f"steps {span.first} to {span.last}"
    match span.sort:
        case "held":
            return f"{span.agent} holds {span.name}, {ends}"
        case "waiting":
            return f"{span.agent} waits for {span.name}, {ends}"
        case "flag":
            return f"{span.agent}'s {span.name} is set, {ends}"
        case "window":
            uses = number_of(span.record, "uses") or 0
            used = f", used {uses} times" if uses > 1 else ", used once" if uses else ""
            return f"{span.agent} could still use the replaced entry {span.name}, {ends}{used}"
        case _:
            return f"{span.agent}'s {span.sort} {span.name}, {ends}"


class Order:
    """Which events come directly before and after each, by their numbers."""

    def __init__(self, events: list[Event]) -> None:
        self.first: dict[int, int] = {}
        self.followers: dict[int, list[int]] = {}
        for number, event in enumerate(events):
            if self.first.setdefault(event.step, number) == number:
                for step in event.after:
                    self.followers.setdefault(step, []).append(number)

    def after(self, event: Event) -> list[int]:
        """Return the events on which an event directly depends; those of other agents."""
        return [self.first[step] for step in event.after if step in self.first and step < event.step]

    def before(self, event: Event) -> list[int]:
        """Return the events that directly depend on an event; those of other agents."""
        return [number for number in self.followers.get(event.step, []) if event.step]
