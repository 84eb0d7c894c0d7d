"""Waits for flushes that were given up, or ended before the flush had completed."""

from collections.abc import Iterator
from enum import Enum

import attrs

from emu.analysis.flushes import Flush
from emu.engine import Agent, Event, Latch, Trace
from emu.iommus.status import WriteStatus
from emu.memory import WORDS


class Reason(Enum):
    """Why a wait ended before its flush had completed."""

    NOT_RESET = "not-reset"  # the status word held the awaited value since an earlier wait
    GIVEN_UP = "given-up"  # by the status of an earlier flush, for which the same CPU had given up waiting
    ANOTHER = "another"  # by a status that another agent had asked for
    TOO_SOON = "too-soon"  # by a status that the same CPU had asked for before it submitted the flush
    NO_FENCE = "no-fence"  # by a later status of the same CPU, which did not wait for the flush
    UNKNOWN = "unknown"  # no unit has written the value


@attrs.frozen
class EarlyEnd:
    """How a wait ended before its flush had completed.

    Attributes:
        step: the step at which it ended.
        written: the step at which the awaited value was written; 0 if the value was there from the start.
        asked_by, asked: the agent that had asked for the status, and the step; None where no unit wrote the value.
    """

    reason: Reason
    step: int
    written: int
    asked_by: str | None
    asked: int | None


def given_up(flush: Flush, events: list[Event]) -> int | None:
    """Return the step after which a flush's agent gave up waiting for it; None if it did not."""
    faults = (
        event.step
        for event in events
        if event.name == "fault.inject" and event.agent is flush.posted.agent
        if event.fields.get("iommu") == flush.done.fields["iommu"]
        if flush.submitted <= event.step <= flush.completed
    )
    return next(faults, None)


def waits(agent: Agent, events: list[Event], trace: Trace) -> Iterator[tuple[Event, Latch]]:
    """Yield the events that ended an agent's waits for a word of memory, each with the latch."""
    performed = [operation for _, operation in trace.performed()]
    for event in events:
        latch = None if event.is_note or event.agent is not agent else performed[event.step - 1].waits_for
        if latch is not None and latch.touch.space == WORDS:
            yield event, latch


def end_of_wait(flush: Flush, events: list[Event], trace: Trace) -> tuple[Event, Latch] | None:
    """Return the event that ended the next wait for a status by a flush's agent, with the latch; None without any."""
    units = {None, flush.done.fields["iommu"]}
    return next(
        (
            (event, latch)
            for event, latch in waits(flush.posted.agent, events, trace)
            if event.step > flush.submitted and event.fields.get("iommu") in units
        ),
        None,
    )


def early_end(flush: Flush, events: list[Event], trace: Trace) -> EarlyEnd | None:
    """Return how the wait for a flush ended before the flush had completed; None if it did not."""
    found = end_of_wait(flush, events, trace)
    if found is None or found[0].step >= flush.completed:
        return None
    done, written = found[0].step, found[1].set_at
    status = [operation for _, operation in trace.performed()][written - 1] if written else None
    if not isinstance(status, WriteStatus):
        return EarlyEnd(Reason.NOT_RESET if written < flush.submitted else Reason.UNKNOWN, done, written, None, None)
    asked_by = trace.agent_of(status.asked)
    if asked_by is not flush.posted.agent:
        reason = Reason.ANOTHER
    elif status.asked > flush.submitted:
        reason = Reason.NO_FENCE
    else:
        reason = reason_of_own(flush, written, status.asked, events, trace)
    return EarlyEnd(reason, done, written, asked_by.name, status.asked)


def reason_of_own(flush: Flush, written: int, asked: int, events: list[Event], trace: Trace) -> Reason:
    """Return why a CPU's wait for a flush ended by a status that it had asked for before the flush."""
    agent = flush.posted.agent
    if any(written < event.step < flush.submitted for event, _ in waits(agent, events, trace)):
        return Reason.NOT_RESET
    gave_up = any(
        event.name == "fault.inject" and event.agent is agent and asked <= event.step <= flush.submitted
        for event in events
    )
    return Reason.GIVEN_UP if gave_up else Reason.TOO_SOON


def is_unawaited(flush: Flush, agent: str, step: int, events: list[Event], trace: Trace) -> bool:
    """Whether an agent had submitted a flush before a step, and had not waited for any status until that step."""
    if flush.agent != agent or not flush.submitted < step < flush.completed:
        return False
    found = end_of_wait(flush, events, trace)
    return given_up(flush, events) is None and (found is None or found[0].step > step)
