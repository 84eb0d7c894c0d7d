"""Spans of steps: hypercalls, calls, locks, the flag that puts flushes off, and windows, from the events of a log."""

from collections import Counter
from collections.abc import Iterable, Iterator

import attrs

from emu.hypervisor.ops import iommu_dont_flush_iotlb
from emu.reports.key_types import value_in
from emu.reports.log import Record
from emu.reports.recorded import STEPS_MAX, Event, Recorded, is_number, number_of, text_of

FLAG = iommu_dont_flush_iotlb.name
BEGINS = {"hypercall.enter": "hypercall", "call.enter": "call"}
ENDS = {"hypercall.exit": "hypercall", "call.return": "call"}


@attrs.frozen
class Span:
    """Something that lasts from one step to another.

    Attributes:
        sort: hypercall, call, held, waiting, flag or window.
        agent: who does it; of a window, the unit.
        name: the call, the lock, the flag; of a window, domain and page.
        is_open: the log ends before it does.
        record: the record that tells of it, with domain and pages.
        depth: in how many calls it lies.
    """

    sort: str
    agent: str
    name: str
    first: int
    last: int
    is_open: bool
    record: Record
    depth: int = 0


def spans(recorded: Recorded) -> list[Span]:
    """Return all spans, in the order in which they begin; outer ones first."""
    events, last = recorded.events, recorded.last
    found = [*calls(events, last), *locks(events, last), *flags(events, last), *windows(recorded)]
    return sorted(found, key=lambda span: (span.first, -span.last, span.depth))


def calls(events: Iterable[Event], last: int) -> list[Span]:
    """Return hypercalls and calls; a hypercall that leaves deferred calls ends when these are judged."""
    found: list[Span] = []
    inside: dict[str, list[tuple[str, Event]]] = {}
    begun_of: Counter[tuple[str, str]] = Counter()
    ended: dict[str, int] = {}

    def end(agent: str, step: int, *, is_open: bool = False) -> None:
        key, begun = inside[agent].pop()
        begun_of[agent, key] -= 1
        name, depth = text_of(begun.record.get(key, key)), len(inside[agent])
        if key == "call":
            name = f"{name} {place_of(begun.record)}".rstrip()
        else:
            ended[agent] = len(found)
        found.append(Span(key, agent, name, begun.step, step, is_open, begun.record, depth))

    for event in events:
        begun = inside.setdefault(event.agent, [])
        if event.name in BEGINS:
            begun.append((BEGINS[event.name], event))
            begun_of[event.agent, BEGINS[event.name]] += 1
        elif (key := ENDS.get(event.name)) and begun_of[event.agent, key]:
            while begun[-1][0] != key:
                end(event.agent, event.step, is_open=True)
            end(event.agent, event.step)
        elif event.name == "hypercall.settle" and event.agent in ended:
            place = ended[event.agent]
            found[place] = attrs.evolve(found[place], last=event.step)
    for agent, begun in inside.items():
        while begun:
            end(agent, last, is_open=True)
    return found


@attrs.define
class Line:
    """The agents that have drawn a ticket of a lock, in their order, each with the step since which it waits.

    Attributes:
        since: the step since which the first of them holds the lock.
    """

    agents: list[tuple[Event, int]] = attrs.field(factory=list)
    since: int = 0


def locks(events: Iterable[Event], last: int) -> Iterator[Span]:
    """Yield who waits for a lock and who holds it; it is held from the step at which the ticket is served."""
    lines: dict[str, Line] = {}
    for event in events:
        if not event.name.startswith("lock."):
            continue
        lock = text_of(event.record.get("lock"))
        line = lines.setdefault(lock, Line())
        if event.name in {"lock.ticket", "lock.contend"}:
            if not line.agents:
                line.since = event.step
            line.agents.append((event, event.step))
        elif event.name == "lock.release" and line.agents and line.agents[0][0].agent == event.agent:
            holder, _ = line.agents.pop(0)
            yield Span("held", event.agent, lock, line.since, event.step, False, holder.record)
            line.since = event.step
            if line.agents:
                waiter, since = line.agents[0]
                yield Span("waiting", waiter.agent, lock, since, event.step, False, waiter.record)
    for lock, line in lines.items():
        for place, (event, since) in enumerate(line.agents):
            sort, first = ("waiting", since) if place else ("held", line.since)
            yield Span(sort, event.agent, lock, first, last, True, event.record)


def flags(events: Iterable[Event], last: int) -> Iterator[Span]:
    """Yield when each CPU's flag that puts flushes off is set."""
    since: dict[str, Event] = {}
    for event in events:
        if event.name == "percpu.write" and event.record.get("variable") == FLAG:
            if value_in(event.record, "value"):
                since.setdefault(event.agent, event)
            elif event.agent in since:
                begun = since.pop(event.agent)
                yield Span("flag", event.agent, FLAG, begun.step, event.step, False, begun.record)
    for agent, begun in since.items():
        yield Span("flag", agent, FLAG, begun.step, last, True, begun.record)


def windows(recorded: Recorded) -> Iterator[Span]:
    """Yield when each replaced entry could still be used."""
    for record in recorded.windows:
        opened, closed = record.get("opened"), record.get("closed")
        if is_number(opened, STEPS_MAX) and is_number(closed, recorded.last) and opened <= closed:
            name = place_of(record) or "entry"
            unit = text_of(record.get("iommu", "nobody"))
            yield Span("window", unit, name, opened, closed, record.get("still_open") is True, record)


def place_of(record: Record) -> str:
    """Return domain and pages of a record in short: "d1 0x1000", "d1 0x1000+8"."""
    domain, dfn, count = (number_of(record, key) for key in ("domain", "dfn", "page_count"))
    level = number_of(record, "table_level") or 1
    words = [] if domain is None else [f"d{domain}"]
    if dfn is not None:
        words.append(f"{dfn:#x}{f'+{count}' if count is not None and count > 1 else ''}")
    return " ".join([*words, f"level {level}"] if level > 1 else words)
