"""An execution as trace events in JSON, as Chrome defines them and Perfetto reads them. A step is a microsecond.

Slices of one track nest. Hypercalls and calls do; the locks that an agent holds need not nest with them, nor with one
another, so that each has a track of its own. An arrow needs a slice at each end: the steps that have one are slices.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from emu.reports.log import Record
from emu.reports.recorded import Event, Recorded, message_of, number_of, text_of
from emu.reports.spans import Span, spans
from emu.reports.timeline.lanes import lanes

PERFETTO_FORMAT = "emu-trace-events-1"
PROCESS = 1
TOLD: tuple[str, ...] = ("scenario", "parameters", "strategy", "seed")
UNSHOWN = frozenset({"event", "level", "execution", "after"})

TraceEvent = dict[str, Any]


class Tracks:
    """The tracks, in the order in which they were first named; each has a number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def of(self, name: str) -> dict[str, int]:
        """Return what puts an event on the track of this name."""
        return {"pid": PROCESS, "tid": self.numbers.setdefault(name, len(self.numbers) + 1)}

    def named(self) -> Iterator[TraceEvent]:
        """Yield the names of the tracks and their order."""
        for name, number in self.numbers.items():
            track: TraceEvent = {"ph": "M", "pid": PROCESS, "tid": number}
            yield {**track, "name": "thread_name", "args": {"name": name}}
            yield {**track, "name": "thread_sort_index", "args": {"sort_index": number}}


def perfetto(recorded: Recorded) -> bytes:
    """Return an execution as a file of trace events."""
    tracks, header = Tracks(), recorded.header
    found = [one for part in (slices, instants, arrows, findings) for one in part(recorded, tracks)]
    name = text_of(header.get("scenario", "an execution"))
    process: TraceEvent = {"ph": "M", "pid": PROCESS, "name": "process_name", "args": {"name": name}}
    other = {"format": PERFETTO_FORMAT, **{key: text_of(header[key]) for key in TOLD if key in header}}
    events: list[TraceEvent] = [process, *tracks.named(), *found]
    return orjson.dumps({"displayTimeUnit": "ns", "otherData": other, "traceEvents": events})


def slices(recorded: Recorded, tracks: Tracks) -> Iterator[TraceEvent]:
    """Yield the beginning and the end of each span, track by track; windows may overlap and are asynchronous."""
    for lane in lanes(recorded, spans(recorded)):
        by_track: dict[str, list[Span]] = {lane.name: []}
        for _, span in lane.spans:
            by_track.setdefault(track_of(span), []).append(span)
        for name, mine in by_track.items():
            track = tracks.of(name)
            if lane.kind == "windows":
                yield from asynchronous(mine, track)
            else:
                yield from nested(mine, track)


def track_of(span: Span) -> str:
    """Return the name of the track of a span."""
    is_of_agent = span.sort in {"hypercall", "call", "window"}
    return span.agent if is_of_agent else f"{span.agent} {span.name}"


def nested(mine: Iterable[Span], track: dict[str, int]) -> Iterator[TraceEvent]:
    """Yield spans of one track so that each ends within the one around it."""
    inside: list[Span] = []
    for span in sorted(mine, key=lambda one: (one.first, one.depth, one.last)):
        while inside and inside[-1].depth >= span.depth:
            yield {"ph": "E", "ts": inside.pop().last, **track}
        name = f"waits for {span.name}" if span.sort == "waiting" else span.name
        begins = {"ph": "B", "ts": span.first, "name": name, "cat": span.sort, **track}
        yield {**begins, "args": {"ends": not span.is_open, **shown(span.record)}}
        inside.append(span)
    while inside:
        yield {"ph": "E", "ts": inside.pop().last, **track}


def asynchronous(windows: Iterable[Span], track: dict[str, int]) -> Iterator[TraceEvent]:
    """Yield windows, each with a number of its own."""
    for number, span in enumerate(windows, 1):
        own = {"cat": "window", "id": f"{span.agent} {number}", "name": f"window {span.name}", **track}
        yield {"ph": "b", "ts": span.first, **own, "args": shown(span.record)}
        yield {"ph": "e", "ts": span.last, **own}


def instants(recorded: Recorded, tracks: Tracks) -> Iterator[TraceEvent]:
    """Yield each event of a step."""
    for event in recorded.events:
        here = {"ph": "i", "s": "t", "ts": event.step, **tracks.of(event.agent)}
        yield {**here, "name": event.name, "cat": event.name.partition(".")[0], "args": shown(event.record)}


def arrows(recorded: Recorded, tracks: Tracks) -> Iterator[TraceEvent]:
    """Yield the order of steps: a slice for each step that has an arrow, and the two ends of each arrow."""
    first: dict[int, Event] = {}
    for event in recorded.events:
        first.setdefault(event.step, event)
    pairs = [(one, step) for step, event in first.items() for one in event.after if one in first and one < step]
    for step in sorted({step for pair in pairs for step in pair}):
        name, track = first[step].name, tracks.of(f"{first[step].agent} order of steps")
        yield {"ph": "X", "ts": step, "dur": 1, "name": name, "cat": "order", **track}
    for number, pair in enumerate(pairs, 1):
        for phase, step in zip(("s", "f"), pair, strict=True):
            end = {"bp": "e"} if phase == "f" else {}
            track = tracks.of(f"{first[step].agent} order of steps")
            yield {"ph": phase, "id": number, "ts": step, "name": "happens before", "cat": "order", **end, **track}


def findings(recorded: Recorded, tracks: Tracks) -> Iterator[TraceEvent]:
    """Yield the findings, each across all tracks."""
    for finding in recorded.findings:
        steps = recorded.steps_of(finding)
        own = number_of(finding, "step")
        step = own if own in steps else max(steps, default=recorded.last)
        track = tracks.of(recorded.events[0].agent)
        args = {"message": message_of(finding), "steps": steps}
        yield {
            "ph": "i",
            "s": "g",
            "ts": step,
            "name": f"finding: {text_of(finding.get('kind', ''))}",
            "args": args,
            **track,
        }


def shown(record: Record) -> dict[str, str]:
    """Return the keys of a record as texts: a viewer keeps no number of 64 bits."""
    return {text_of(key): text_of(value, key) for key, value in record.items() if key not in UNSHOWN}
