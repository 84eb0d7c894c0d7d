"""Explains a stale translation from the trace: who changed the entry, which flush covers it, how long it took."""

import attrs

from emu.analysis.source_lines import line_of_call, line_of_caller, line_of_change
from emu.analysis.windows import covers
from emu.checks.findings import OldPath, Owed
from emu.engine import Event, Trace
from emu.hypervisor.ops import iommu_dont_flush_iotlb
from emu.memory import LINE_BYTES


@attrs.frozen
class Flush:
    """The flush that removed the translation at last.

    Attributes:
        agent: who submitted it, at step `submitted`; it completed at step `completed`.
        source: the line of the wrapper that asked for it.
        given_up: the step after which whoever submitted it waited no longer; None if it did.
        misled: the step at which its wait had ended before it had completed; None if it had not.
    """

    agent: str
    submitted: int
    completed: int
    source: str | None
    given_up: int | None
    misled: int | None


@attrs.frozen
class Omission:
    """A call that changed the entry and returned, at step `step`, without a flush that ever covered it.

    Attributes:
        skipped: the step after which it passed the unit over, for the domain had no id there; None if it did not.
    """

    call: str
    step: int
    source: str | None
    skipped: int | None


@attrs.frozen
class Explanation:
    """What a trace tells of a stale translation.

    Attributes:
        changed_by: who overwrote the entry, at step `changed`; None where the page is still mapped.
        promise_source: the line of the scenario whose call returned.
        flush: None where none followed at all.
        omission: where it would have been due, if there was none; None where the call did not return.
        flag_set: the step and the line that had set iommu_dont_flush_iotlb, where it was left set.
        last_step: of the execution.
    """

    changed_by: str | None
    changed: int | None
    change_source: str | None
    promise_source: str | None
    flush: Flush | None
    omission: Omission | None
    flag_set: tuple[int, str | None] | None
    last_step: int

    @property
    def window(self) -> int:
        """Steps during which the translation could be used after it was replaced, to the end if nothing removed it."""
        return 0 if self.changed is None else self.closed - self.changed

    @property
    def closed(self) -> int:
        """The step at which it could be used no more; the last one if nothing removed it."""
        return self.flush.completed if self.flush else self.last_step


def explain(finding: OldPath, trace: Trace) -> Explanation:
    """Explain a finding by the trace of its execution."""
    events = list(trace.events())
    promise_source = line_of_caller(trace, finding.step)
    if finding.replaced is None:
        return Explanation(None, None, None, promise_source, None, None, None, trace.step)
    changed = finding.replaced.overwritten or 0
    line = finding.replaced.address & -LINE_BYTES
    written_back = (one.step for one in events if one.name == "line.write_back" and one.fields["address"] == line)
    visible = next((step for step in written_back if step > changed), changed)
    changed_by = trace.agent_of(changed).name
    flush = covering_flush(finding, visible, events, trace)
    is_left_set = isinstance(finding, Owed) and finding.debt.flag_is_left_set
    return Explanation(
        changed_by=changed_by,
        changed=changed,
        change_source=line_of_change(trace, changed),
        promise_source=promise_source,
        flush=flush,
        omission=None if flush else omission(finding, changed_by, changed, events, trace),
        flag_set=flag_set(finding, events, trace) if is_left_set else None,
        last_step=trace.step,
    )


def covering_flush(finding: OldPath, visible: int, events: list[Event], trace: Trace) -> Flush | None:
    """Return the first flush that began after walkers could see the change, covered the page, and completed."""
    for event in events:
        if event.name != "invalidate.complete" or event.fields["began"] <= visible:
            continue
        if covers(event, finding.unit, finding.tag, finding.dfn, finding.dfn):
            posted = submission(event, events)
            given_up = note("fault.inject", posted.agent.name, finding.unit, posted.step, event.step, events)
            done = next((one.step for one in events if is_done(one, posted)), event.step)
            misled = done if given_up is None and done < event.step else None
            return Flush(posted.agent.name, posted.step, event.step, line_of_call(trace, posted.step), given_up, misled)
    return None


def submission(completion: Event, events: list[Event]) -> Event:
    """Return the event that submitted an invalidation; the completion itself where the unit has no queue."""
    keys = {key: completion.fields.get(key) for key in ("iommu", "slot")}
    return next((one for one in events if one.name == "queue.post" and keys.items() <= one.fields.items()), completion)


def is_done(event: Event, posted: Event) -> bool:
    """Whether whoever has posted a descriptor has then waited for a status of that unit to its end."""
    is_there = (event.agent, event.fields.get("iommu")) == (posted.agent, posted.fields["iommu"])
    return is_there and event.name == "flush.done" and event.step > posted.step


def note(name: str, agent: str, unit: str, first: int, last: int, events: list[Event]) -> int | None:
    """Return the step of an agent's first remark about a unit between two steps; None if there is none."""
    found = (
        event.step
        for event in events
        if event.name == name and event.agent.name == agent and first <= event.step <= last
        if event.fields.get("iommu") == unit
    )
    return next(found, None)


def omission(finding: OldPath, agent: str, changed: int, events: list[Event], trace: Trace) -> Omission | None:
    """Return the end of the call in which an agent changed an entry."""
    for event in events:
        if event.name == "call.return" and event.agent.name == agent and event.step > changed:
            skipped = note("flush.skip", agent, finding.unit, changed, event.step, events)
            return Omission(event.fields["call"], event.step, line_of_caller(trace, event.step), skipped)
    return None


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
