"""What is shown of a replay that stands after one of its steps: the step, the agents, the locks, the promises."""

from collections.abc import Iterable, Iterator

from emu.analysis.source_lines import line_in_revision
from emu.checks.findings import Finding, NotIsolated, OldPath
from emu.engine import Agent
from emu.engine.accesses import Access
from emu.engine.locks import TakeTicket, TicketLock
from emu.engine.operations import Operation
from emu.engine.sources import locations
from emu.hypervisor.ops import iommu_dont_flush_iotlb
from emu.memory import WORDS
from emu.reports.breaks import FINDING
from emu.reports.counts import count
from emu.reports.findings import call_text, sentence
from emu.reports.log import Record, event_record, finding_record
from emu.running.stepping import Stepping
from emu.units import WORD_BYTES

COMMON = {"level": "info"}

ACCESSES_SHOWN = 2
"""How many accesses of an announced operation are shown."""


def records_from(stepping: Stepping, first: int) -> Iterator[Record]:
    """Yield the records of a step and of those after it, as the log has them."""
    trace = stepping.execution.trace
    return (event_record(trace, event, COMMON) for event in trace.events_from(first))


def latest_records(stepping: Stepping) -> Iterator[Record]:
    """Yield the records of the latest step, and of what the checks have reported after it."""
    if not stepping.has_ended:
        yield from records_from(stepping, stepping.step)
    for finding in stepping.new:
        yield {**finding_record(stepping.machine, finding, COMMON), "event": FINDING, "step": stepping.step}


def sentences(stepping: Stepping, findings: Iterable[Finding]) -> list[str]:
    """Return findings as the sentences that the whole replay reports, each once."""
    return list(dict.fromkeys(sentence(*stepping.in_whole(one)) for one in findings))


def news(stepping: Stepping) -> list[str]:
    """Return a sentence for each finding that is new after the latest step, or for which there is new evidence."""
    when = "at the end" if stepping.has_ended else f"after step {stepping.step}"
    told = []
    for finding in stepping.new:
        if isinstance(finding, OldPath | NotIsolated) and finding.use and finding.step < stepping.step:
            used = f"device {finding.use.device} has used it"
            told.append(f"{when} the finding of step {finding.step} is observed: {used}")
        else:
            told += [f"{when} a check reports: {said}" for said in sentences(stepping, [finding])]
    return told


def position(stepping: Stepping) -> str:
    """Say where the replay stands."""
    if stepping.run.failure is not None:
        return f"after step {stepping.step} a mistake ends the execution: {stepping.run.failure}"
    if stepping.run.limit is not None:
        return f"after step {stepping.step} a limit ends the execution: {stepping.run.limit}"
    if stepping.has_ended:
        return f"the execution has ended after {count(stepping.step, 'step')}"
    if stepping.upcoming is None:
        return f"all {count(stepping.steps, 'step')} are taken: the end of the execution comes next"
    return f"before the first of {count(stepping.steps, 'step')}" if not stepping.step else ""


def agent_lines(stepping: Stepping) -> Iterator[str]:
    """Yield a line for each agent: what it has announced, and when it does that; > marks the one that goes next."""
    width = max(len(agent.name) for agent in stepping.agents)
    for agent in stepping.agents:
        mark = ">" if agent is stepping.upcoming else " "
        yield f"{mark} {agent.name:<{width}} {announced(stepping, agent)}"


def announced(stepping: Stepping, agent: Agent) -> str:
    """Say what an agent has announced, and the step and the event that this is."""
    operation = agent.pending
    if operation is None or agent.coroutine is None:
        return "has ended" if agent.is_done else "has not begun"
    event = stepping.next_event(agent)
    what = f"no step follows, {type(operation).__name__}" if event is None else f"step {event.step} {event.name}"
    line = line_in_revision(list(locations(agent.coroutine)), innermost=True)
    return f"{what}: {operation_text(agent, operation)}{f' ({line})' if line else ''}"


def operation_text(agent: Agent, operation: Operation[object]) -> str:
    """Say what an operation waits for, or what it accesses."""
    latch = operation.waits_for
    if latch is not None and not agent.can_step():
        holder = latch.holder()
        return f"waits for {latch.name}" + (f", held by {holder[0]} since step {holder[1]}" if holder else "")
    accesses = list(operation.accesses())
    shown = ", ".join(map(access_text, accesses[:ACCESSES_SHOWN])) or "accesses nothing shared"
    return shown + (f" and {len(accesses) - ACCESSES_SHOWN} more" if len(accesses) > ACCESSES_SHOWN else "")


def access_text(access: Access) -> str:
    """Name an access: its kind, and the object or the range of objects; words by their addresses."""
    unit, space = (WORD_BYTES, "word") if access.space == WORDS else (1, "/".join(access.space))
    last = "" if access.first == access.last else f"..{unit * access.last:#x}"
    return f"{access.kind.value} {space} {unit * access.first:#x}{last}"


def lock_lines(stepping: Stepping) -> Iterator[str]:
    """Yield a line for each lock that is held."""
    for lock in locks_asked_for(stepping):
        if lock.holder is not None:
            waiting = f"; waiting: {', '.join(lock.queue[1:])}" if lock.queue[1:] else ""
            yield f"{lock.name} is held by {lock.holder} since step {lock.held_since}{waiting}"


def locks_asked_for(stepping: Stepping) -> list[TicketLock]:
    """Return the locks that agents have asked for, by name."""
    performed = stepping.execution.trace.performed()
    asked = {operation.lock.name: operation.lock for _, operation in performed if isinstance(operation, TakeTicket)}
    return [asked[name] for name in sorted(asked)]


def owed_lines(stepping: Stepping) -> Iterator[str]:
    """Yield a line for each CPU that puts flushes off, and for each call that has done so and whose hypercall runs."""
    for cpu in stepping.machine.cpus.values():
        if cpu.peek(iommu_dont_flush_iotlb):
            yield f"{iommu_dont_flush_iotlb.name} is set on {cpu.name}"
    for debt in stepping.machine.judge.debts:
        call = call_text(debt.call, debt.domain.number, debt.dfn, debt.page_count)
        yield f"{debt.cpu.name} owes the flush of its {call}, which returned at step {debt.returned}"


def promise_lines(stepping: Stepping) -> Iterator[str]:
    """Yield a line for each promise about a page, the pages in order: which values must no longer be used."""
    promised = stepping.machine.judge.promised
    for domain, dfn in sorted(promised):
        for one in promised[domain, dfn]:
            what = "" if one.frame is None else f" and of mfn {one.frame:#x}"
            yield (
                f"domain {domain} dfn {dfn:#x}: since step {one.step} nothing{what} that was replaced up to step "
                f"{one.changed} may be used, says {one.agent}'s {one.call}"
            )
