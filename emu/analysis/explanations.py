"""Explains a stale translation by the trace: the change of the entry, the flush that covers it, and the window."""

from math import inf

import attrs

from emu.analysis.flushes import OF_TIME, Flush, Miss, Shortfall, flushes, shortfalls
from emu.analysis.source_lines import line_of_caller, line_of_change
from emu.analysis.waits import EarlyEnd, early_end, given_up, is_unawaited
from emu.checks.details import Arrival
from emu.checks.findings import OldPath, Owed
from emu.engine import Event, Trace
from emu.hypervisor.ops import iommu_dont_flush_iotlb
from emu.memory import HALF_MASK, LINE_BYTES
from emu.units import PAGE_SIZE

PRESENT = 1
"""The lowest bit of a device's entry: it is present, or valid. The store of it has the root, or the root's low half."""


Span = tuple[Event, Event | None]
"""The event that began a call or a hypercall, and the event that ended it, if it ended."""


@attrs.frozen
class Omission:
    """A call that changed the entry and returned, at step `step`, without a flush that ever covered it.

    Attributes:
        skipped: the step at which the call left the unit out, because the domain had no id there; None if it did not.
    """

    call: str
    step: int
    source: str | None
    skipped: int | None


@attrs.frozen
class WriteBack:
    """The write-back of the cache line of the entry, before the store that replaced the entry."""

    agent: str
    step: int
    source: str | None


@attrs.frozen
class TakenAway:
    """A store that cleared a device's entry, which led to the tables of a finding."""

    agent: str
    device: str
    step: int
    source: str | None


@attrs.frozen
class Explanation:
    """What a trace tells of a stale translation.

    Attributes:
        changed_by: the agent that overwrote the entry, at step `changed`; None where the page is still mapped.
        promise_source: the line of the scenario whose call returned.
        arrival: when the store reached memory.
        written_back: the write-back of the same call before the store, where no write-back came after it.
        flush: the flush that removed the translation at last; None if none did.
        is_flush_of_call: it was submitted in the call that changed the entry, or that call had put it off.
        given_up: the step after which the CPU of `flush` gave up waiting for it; None if it did not.
        ended_early: how the wait for `flush` ended before `flush` had completed; None if it did not.
        is_unawaited: the CPU that broke the promise had submitted `flush` and had not waited for it.
        nearest: among the flushes of `changed_by` that did not remove the entry, the nearest to doing so.
        own: the flush by the call that promised, if another agent had changed the entry and walkers still read the old
            one when that flush began.
        omission: the return of the call that omitted the flush; None if the call flushed, or did not return.
        has_unfinished: a descriptor that was submitted after the change had not completed when the execution ended.
        flag_set: the step and the line that had set iommu_dont_flush_iotlb, where it was left set.
        taken_away: the device that the domain lost last, where the page is still mapped; None if it lost none.
        last_step: the last step of the execution.
    """

    changed_by: str | None = None
    changed: int | None = None
    change_source: str | None = None
    promise_source: str | None = None
    arrival: Arrival | None = None
    written_back: WriteBack | None = None
    flush: Flush | None = None
    is_flush_of_call: bool = True
    given_up: int | None = None
    ended_early: EarlyEnd | None = None
    is_unawaited: bool = False
    nearest: Miss | None = None
    own: Miss | None = None
    omission: Omission | None = None
    has_unfinished: bool = False
    flag_set: tuple[int, str | None] | None = None
    taken_away: TakenAway | None = None
    last_step: int = 0

    @property
    def window(self) -> int:
        """Steps during which the translation could be used after it was replaced, to the end if nothing removed it."""
        return 0 if self.changed is None else self.closed - self.changed

    @property
    def closed(self) -> int:
        """The step from which the translation could no longer be used; the last step if nothing removed it."""
        return self.flush.completed if self.flush else self.last_step


def explain(finding: OldPath, trace: Trace) -> Explanation:
    """Explain a finding by the trace of its execution."""
    promise_source, changed = line_of_caller(trace, finding.step), finding.change
    events = list(trace.events())
    if changed is None:
        lost = taken_away(finding, events, trace)
        return Explanation(promise_source=promise_source, taken_away=lost, last_step=trace.step)
    agent = trace.agent_of(changed).name
    every = list(flushes(events, trace))
    flush = closing_flush(finding, every)
    call = around(changed, agent, "call.enter", "call.return", events)
    is_left_set = isinstance(finding, Owed) and finding.debt.flag_is_left_set
    return Explanation(
        changed_by=agent,
        changed=changed,
        change_source=line_of_change(trace, changed),
        promise_source=promise_source,
        arrival=finding.arrival,
        written_back=write_back_before(finding, agent, call, events, trace),
        flush=flush,
        is_flush_of_call=flush is None or is_of_call(flush, agent, call),
        given_up=given_up(flush, events) if flush else None,
        ended_early=early_end(flush, events, trace) if flush else None,
        is_unawaited=flush is not None and is_unawaited(flush, finding.agent, finding.step, events, trace),
        nearest=nearest(finding, agent, every, flush, steps_of_flush(changed, agent, flush, call, events)),
        own=None if agent == finding.agent else own_flush(finding, every, events),
        omission=None if flush or call is None else omission(finding, agent, changed, call[1], events, trace),
        has_unfinished=flush is None and has_unfinished(finding.unit, changed, events),
        flag_set=flag_set(finding, events, trace) if is_left_set else None,
        last_step=trace.step,
    )


def taken_away(finding: OldPath, events: list[Event], trace: Trace) -> TakenAway | None:
    """Return the last store before a finding that cleared a device's entry which held the root of the tables."""
    before = (event for event in reversed(events) if event.step <= finding.step and "bdf" in event.fields)
    for event in before:
        old, new = event.fields.get("old", 0), event.fields.get("value", 0)
        if old & PRESENT and not new & PRESENT and old & -PAGE_SIZE in {finding.root, finding.root & HALF_MASK}:
            source = line_of_change(trace, event.step)
            return TakenAway(event.agent.name, event.fields["bdf"], event.step, source)
    return None


def is_of_call(flush: Flush, agent: str, call: Span | None) -> bool:
    """Whether a flush belongs to the call that changed an entry: submitted in it, or put off by it."""
    if call is None or call[1] is None or call[1].fields.get("deferred"):
        return True
    return flush.agent == agent and flush.submitted <= call[1].step


def closing_flush(finding: OldPath, every: list[Flush]) -> Flush | None:
    """Return the first flush after a finding that removed its translation."""
    seen = seen_at(finding)
    return next((one for one in every if one.completed > finding.step and not shortfalls(one, finding, seen)), None)


def seen_at(finding: OldPath) -> float:
    """Return the step from which each walker must read the store that replaced the entry; infinite if never."""
    if finding.arrival is not None:
        return inf if finding.arrival.step is None else finding.arrival.step
    return finding.replaced.outdated if finding.replaced else inf


def around(step: int, agent: str, enter: str, leave: str, events: list[Event]) -> Span | None:
    """Return the innermost call or hypercall in which an agent took a step.

    Args:
        enter, leave: the names of the events that begin and end it.
    """
    begun: list[Event] = []
    found: Event | None = None
    for event in events:
        if event.agent.name != agent:
            continue
        if event.step > step and found is None:
            if not begun:
                return None
            found = begun[-1]
        if event.name == enter:
            begun.append(event)
        elif event.name == leave and begun.pop() is found:
            return found, event
    return (found or begun[-1], None) if begun else None


def steps_of_flush(
    changed: int, agent: str, flush: Flush | None, call: Span | None, events: list[Event]
) -> list[tuple[int, float]]:
    """Return the ranges of steps in which an entry's own flush may have been submitted, the likeliest first.

    The first range is the call that changed the entry. Where nothing has removed the entry, a second one begins with
    the hypercall and has no end. There is none where the call itself has submitted the flush that removed the entry.
    """
    first, end = (changed, inf) if call is None else (call[0].step, call[1].step if call[1] else inf)
    if flush is None:
        hypercall = around(changed, agent, "hypercall.enter", "hypercall.exit", events)
        return [(first, end), (hypercall[0].step if hypercall else first, inf)]
    is_own = flush.agent == agent and first <= flush.submitted <= end
    return [] if is_own or call is None else [(first, end)]


def nearest(
    finding: OldPath, agent: str, every: list[Flush], closing: Flush | None, ranges: list[tuple[int, float]]
) -> Miss | None:
    """Return, of an agent's flushes that did not remove an entry, the nearest to doing so; None if none came near.

    Args:
        closing: the flush that removed the entry.
        ranges: the steps at which a flush must have been submitted; a flush in an earlier range is preferred.
    """
    seen, changed = seen_at(finding), finding.change or 0
    tried = [
        Miss(flush, shortfalls(flush, finding, seen))
        for flush in every
        if flush is not closing and flush.agent == agent
    ]
    near = [one for one in tried if len(one.shortfalls) == 1 or OF_TIME.isdisjoint(one.shortfalls)]
    for first, last in ranges:
        inside = [one for one in near if one.shortfalls and first <= one.flush.submitted <= last]
        if inside:
            return min(inside, key=lambda one: (*one.distance, abs(one.flush.submitted - changed)))
    return None


def own_flush(finding: OldPath, every: list[Flush], events: list[Event]) -> Miss | None:
    """Return the last flush by the call that promised, if walkers only still read the old entry when it began."""
    call = around(finding.step - 1, finding.agent, "call.enter", "call.return", events)
    if call is None:
        return None
    first, seen = call[0].step, seen_at(finding)
    tried = [
        Miss(flush, shortfalls(flush, finding, seen))
        for flush in every
        if flush.agent == finding.agent and first <= flush.submitted <= finding.step
    ]
    return next((one for one in reversed(tried) if one.shortfalls == (Shortfall.UNSEEN,)), None)


def write_back_before(
    finding: OldPath, agent: str, call: Span | None, events: list[Event], trace: Trace
) -> WriteBack | None:
    """Return the write-back that a call made before its store to the line, where the store never reached memory."""
    if finding.replaced is None or call is None or seen_at(finding) != inf:
        return None
    line = finding.replaced.address & -LINE_BYTES
    steps = [
        event.step
        for event in events
        if event.name == "line.write_back" and event.agent.name == agent and event.fields["address"] == line
        if call[0].step <= event.step < (finding.change or 0)
    ]
    return WriteBack(agent, steps[-1], line_of_change(trace, steps[-1])) if steps else None


def omission(
    finding: OldPath, agent: str, changed: int, returned: Event | None, events: list[Event], trace: Trace
) -> Omission | None:
    """Return the omission of a call that changed an entry without a flush of it; None if the call did not return."""
    if returned is None:
        return None
    skips = (
        event.step
        for event in events
        if event.name == "flush.skip" and event.agent.name == agent and changed <= event.step <= returned.step
        if event.fields["iommu"] == finding.unit
    )
    return Omission(returned.fields["call"], returned.step, line_of_caller(trace, returned.step), next(skips, None))


def has_unfinished(unit: str, changed: int, events: list[Event]) -> bool:
    """Whether a descriptor submitted to a unit after a change was still unfinished when the execution ended."""
    of_unit = [event for event in events if event.fields.get("iommu") == unit and "slot" in event.fields]
    fetched = max((event.fields["slot"] for event in of_unit if event.name == "queue.fetch"), default=-1)
    done = {event.fields["slot"] for event in of_unit if event.name == "invalidate.complete"}
    return any(
        (event.name == "queue.post" and event.step > changed and event.fields["slot"] > fetched)
        or (event.name == "iotlb.invalidate" and event.fields["slot"] not in done)
        for event in of_unit
    )


def flag_set(finding: OldPath, events: list[Event], trace: Trace) -> tuple[int, str | None] | None:
    """Return the step and the line that last set the flag on the CPU of a finding, before the finding."""
    name = iommu_dont_flush_iotlb.name
    writes = [
        event.step
        for event in events
        if event.name == "percpu.write" and event.agent.name == finding.agent and event.step < finding.step
        if event.fields["variable"] == name and event.fields["value"]
    ]
    return (writes[-1], line_of_caller(trace, writes[-1])) if writes else None
