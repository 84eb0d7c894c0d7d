"""The facts of a finding, one a line: a label, a text, and the steps that the fact is about."""

from collections.abc import Iterator
from typing import Any

import attrs

from emu.analysis.explanations import around
from emu.analysis.flushes import flushes
from emu.analysis.source_lines import line_of_caller, line_of_change
from emu.checks.details import Act
from emu.checks.findings import (
    Asserted,
    BeyondRange,
    Finding,
    ForeignAccess,
    FreedTable,
    Gap,
    Illegal,
    Late,
    LateStatus,
    LostError,
    NoBreak,
    NotIsolated,
    NotRolledBack,
    Overrun,
    Owed,
    Released,
    Stale,
    StaleAssignment,
    Stuck,
    Torn,
    WrongResult,
)
from emu.engine import Trace
from emu.engine.claims import When
from emu.machine.machine import Machine
from emu.reports.counts import count
from emu.reports.fact import Fact
from emu.reports.findings import (
    call_of,
    given_to,
    left,
    line_of_claim,
    mapping,
    programmed,
    reason,
    result_name,
    walker,
)
from emu.reports.stale import at
from emu.reports.stale_facts import stale_facts
from emu.reports.step_texts import led_to

OfCall = LostError | NotRolledBack | WrongResult | Gap


def facts(finding: Finding, machine: Machine) -> list[Fact]:
    """Return the facts of a finding, in the order in which they are told."""
    trace = machine.trace
    match finding:
        case Stale() | Owed() | Released():
            told = stale_facts(finding, machine)
        case LostError() | NotRolledBack() | WrongResult() | Gap():
            told = of_call(finding, trace)
        case Stuck():
            told = of_deadlock(finding)
        case Asserted():
            told = of_claim(finding, trace)
        case StaleAssignment():
            told = of_assignment(finding, trace)
        case NotIsolated():
            told = of_isolation(finding, trace)
        case Torn():
            told = of_halves(finding, machine)
        case NoBreak():
            told = of_break(finding, machine)
        case Overrun() | FreedTable() | BeyondRange():
            told = of_store(finding, trace)
        case Late() | LateStatus() | ForeignAccess() | Illegal():
            told = of_access(finding, trace)
    return list(told)


def of_call(finding: OfCall, trace: Trace) -> Iterator[Fact]:
    """Yield the facts of a call: what failed, what it did, and what it returned."""
    source = line_of_caller(trace, finding.step)
    who = {"agent": finding.agent, "call": finding.call, "step": finding.step, "source": source}
    result = "success"
    match finding:
        case LostError(failure=failure):
            result = "success" if finding.has_result else "and logged nothing"
            what = f"dfn {failure.dfn:#x}" if failure.page_count else "the whole domain"
            error = result_name(failure.result)
            yield Fact(
                "failure",
                f"hook {failure.hook} failed with {error} on {what} after step {failure.step}",
                (failure.step,),
                {"hook": failure.hook, "result": error, "step": failure.step},
            )
        case NotRolledBack():
            result = result_name(finding.result)
            yield from faults(finding, trace)
            yield from last_store(finding, trace)
            yield Fact("left", f"dfn {finding.page:#x} is still mapped", (), {"dfn": finding.page})
        case WrongResult():
            yield from last_store(finding, trace)
            yield Fact("left", left(finding), (), {"dfn": finding.page})
            yield Fact("asked", f"dfn {finding.page:#x} {mapping(finding.asked)}", (), finding.asked._asdict())
        case Gap():
            result = ""
            text = f"dfn {finding.page:#x}, which was mapped before, was unmapped at step {finding.cleared}"
            yield Fact("gap", text, (finding.cleared,), {"dfn": finding.page, "step": finding.cleared})
            yield from last_store(finding, trace)
    returned = f"returned {result}".strip()
    yield Fact(
        "return",
        f"{finding.agent}'s {finding.call} {returned} at step {finding.step}{at(source)}",
        (finding.step,),
        who,
    )


def faults(finding: NotRolledBack, trace: Trace) -> Iterator[Fact]:
    """Yield the last fault that was injected into the CPU of a call, during the call."""
    begun = begin_of(finding, trace)
    steps = [
        event.step
        for event in trace.events()
        if event.name == "fault.inject" and event.agent.name == finding.agent
        if begun <= event.step <= finding.step
    ]
    if steps:
        yield Fact("failure", f"a fault was injected after step {steps[-1]}", (steps[-1],), {"step": steps[-1]})


def last_store(finding: NotRolledBack | WrongResult | Gap, trace: Trace) -> Iterator[Fact]:
    """Yield the last store to the entry of the page by the CPU of a call, during the call."""
    begun = begin_of(finding, trace)
    steps = [
        event.step
        for event in trace.events()
        if event.name in {"pte.write", "pte.clear"} and event.agent.name == finding.agent
        if begun <= event.step <= finding.step and event.fields["domain"] == finding.domain
        if event.fields["dfn"] == finding.page
    ]
    if steps:
        source = line_of_change(trace, steps[-1])
        text = f"{finding.agent} last stored the entry of dfn {finding.page:#x} at step {steps[-1]}{at(source)}"
        yield Fact("store", text, (steps[-1],), {"step": steps[-1], "source": source})


def begin_of(finding: OfCall, trace: Trace) -> int:
    """Return the step at which the call of a finding began; 0 if that is not known."""
    call = around(finding.step - 1, finding.agent, "call.enter", "call.return", list(trace.events()))
    return call[0].step if call else 0


def of_deadlock(finding: Stuck) -> Iterator[Fact]:
    """Yield who waits for what, since when, and who holds it."""
    for one in finding.deadlock.waiters:
        held = f", held by {one.holder} since step {one.held_since}" if one.holder else ""
        steps = tuple(step for step in (one.since, one.held_since) if step)
        yield Fact(one.agent, f"waits for {one.waits_for} since step {one.since}{held}", steps, attrs.asdict(one))


def of_claim(finding: Asserted, trace: Trace) -> Iterator[Fact]:
    """Yield the claim, when it has to hold, and the step that broke it."""
    source = line_of_claim(finding, trace)
    when = f"asserted by {finding.agent}" if finding.when is When.ASSERTED else finding.when.value
    yield Fact("claim", finding.claim, (), {"claim": finding.claim})
    yield Fact("when", when, (), {"when": finding.when.value})
    moment = f"after step {finding.step}" if finding.step else "before the first step"
    by = f" of {finding.agent}" if finding.agent and finding.step and finding.when is When.ALWAYS else ""
    values = {"agent": finding.agent, "step": finding.step, "source": source}
    yield Fact("broken", f"{moment}{by}{at(source)}", (finding.step,) if finding.step else (), values)


def of_assignment(finding: StaleAssignment, trace: Trace) -> Iterator[Fact]:
    """Yield where a device went, what became of its old entry, and what the unit could still do."""
    source = line_of_caller(trace, finding.step)
    if finding.revived is not None:
        made = finding.revived
        text = f"{made.agent}'s {made.call} of domain {finding.joined} dfn {made.dfn:#x} returned at step {made.step}"
        yield Fact("promise", text, (made.step,), attrs.asdict(made))
    yield from of_entry(finding, trace)
    text = f"device {finding.device} was {given_to(finding)} at step {finding.step}{at(source)}"
    yield Fact("assigned", text, (finding.step,), {"device": finding.device, "domain": finding.joined})


def of_entry(finding: StaleAssignment, trace: Trace) -> Iterator[Fact]:
    """Yield what became of the device's old entry, and of what a unit had cached of it."""
    names = {f"{what}.{how}": how for what in ("context", "device_entry", "stream") for how in ("read", "write")}
    touched = [
        event
        for event in trace.events()
        if event.name in names and event.fields.get("bdf") == finding.device and event.step <= finding.step
    ]
    stored = [event for event in touched if names[event.name] == "write"]
    for last in (stored or touched)[-1:]:
        line, who = line_of_change(trace, last.step), last.agent.name
        text = f"{who} read it at step {last.step}{at(line)}, and nobody changed it"
        if stored:
            text = f"{who} last changed it at step {last.step}{at(line)}: {last.fields['old']:#x} -> "
            text += f"{last.fields['value']:#x}"
        yield Fact("entry", text, (last.step,), {"agent": who, "step": last.step, "source": line})
    if stored and not finding.is_untranslated and finding.revived is None:
        yield dropped(finding, stored[-1].step, trace)


def dropped(finding: StaleAssignment, stored: int, trace: Trace) -> Fact:
    """Return when a unit dropped cached entries of devices after a device's entry was stored.

    A unit that caches none of them drops what was cached by them.
    """
    events = [event for event in trace.events() if event.step >= stored]
    names, what = {"context.invalidate", "device_entry.invalidate"}, "cached device entries"
    if events[0].name == "stream.write":
        names, what = {"invalidate.complete"}, "what is cached by them"
    of_unit = [event for event in events if event.name in names and event.agent.name == finding.unit]
    steps = [event.step for event in of_unit if event.fields.get("began", stored) >= stored]
    if not steps:
        return Fact("flush", f"{finding.unit} did not drop {what} after that", (), {"dropped": None})
    said = f"{finding.unit} dropped {what} at step {steps[0]}"
    late = ": too late" if steps[0] > finding.step else ""
    return Fact("flush", said + late, (steps[0],), {"dropped": steps[0]})


def of_isolation(finding: NotIsolated, trace: Trace) -> Iterator[Fact]:
    """Yield the act, its harm, and the rule against it."""
    source = line_of_caller(trace, finding.step)
    page = f"dfn {finding.dfn:#x}" if finding.domain is None else f"domain {finding.domain} dfn {finding.dfn:#x}"
    done = {
        Act.MAP: f"{finding.agent} mapped {page} to mfn {finding.frame:#x}",
        Act.WITHDRAW: f"{finding.agent} ended the right of domain {finding.domain} to map mfn {finding.frame:#x}",
        Act.ATTACH: f"{finding.agent} gave domain {finding.domain} a device that finds mfn {finding.frame:#x}",
        Act.ACCESS: f"device {finding.agent} accessed mfn {finding.frame:#x}",
    }
    values = {"agent": finding.agent, "act": finding.act.value, "step": finding.step, "source": source}
    yield Fact(finding.act.value, f"{done[finding.act]} at step {finding.step}{at(source)}", (finding.step,), values)
    yield Fact("through", f"{page} at {finding.unit}", (), {"dfn": finding.dfn, "iommu": finding.unit})
    yield Fact("but", reason(finding), (), {"owner": finding.owner, "is_table": finding.is_table})
    if finding.use and finding.act is not Act.ACCESS:
        text = f"device {finding.use.device} accessed it at step {finding.use.step}"
        yield Fact("use", text, (finding.use.step,), attrs.asdict(finding.use))


def of_halves(finding: Torn, machine: Machine) -> Iterator[Fact]:
    """Yield the two stores, what the entry held around them, and who used it."""
    format_ = machine.domains[finding.domain].format
    labels = ("before", "between", "after")
    for label, word in zip(labels, finding.words, strict=True):
        text = f"{word:#x}, which leads to {led_to(format_, word, 1, finding.dfn)}"
        yield Fact(label, text, (), {"word": word})
    source = line_of_change(machine.trace, finding.steps[0])
    one, other = finding.steps
    text = f"{finding.agent} stored one half at step {one} and the other at step {other}{at(source)}"
    yield Fact("stores", text, finding.steps, {"agent": finding.agent, "steps": list(finding.steps), "source": source})
    if finding.use:
        text = f"device {finding.use.device} used the entry between through {finding.unit}, at step {finding.use.step}"
        yield Fact("use", text, (finding.use.step,), attrs.asdict(finding.use))
    else:
        yield Fact("use", f"walks of {finding.unit} between the two may find it", (), {"iommu": finding.unit})


def of_break(finding: NoBreak, machine: Machine) -> Iterator[Fact]:
    """Yield the two entries, when the first gave way, the last flush before the second, and its store."""
    trace, format_ = machine.trace, machine.domains[finding.domain].format
    for label, word in zip(("before", "after"), finding.words, strict=True):
        text = f"{word:#x}, which leads to {led_to(format_, word, finding.level, finding.dfn)}"
        yield Fact(label, text, (), {"word": word})
    replaced = replaced_at(finding, trace)
    if replaced is not None:
        text = f"{trace.agent_of(replaced).name} had replaced the first at step {replaced}"
        yield Fact("replaced", text + at(line_of_change(trace, replaced)), (replaced,), {"step": replaced})
    yield flush_before(finding, machine)
    source = line_of_change(trace, finding.step)
    text = f"{finding.agent} stored the second at step {finding.step}{at(source)}, while {walker(finding)} could still "
    text += "use the first"
    values = {"agent": finding.agent, "step": finding.step, "source": source}
    yield Fact("store", text, (finding.step,), values)


def replaced_at(finding: NoBreak, trace: Trace) -> int | None:
    """Return the last step before a finding's at which the entry that could still be used was replaced, if one did."""
    steps = [
        event.step
        for event in trace.events()
        if event.step < finding.step and event.name in {"pte.clear", "pte.write"}
        if (event.fields["address"], event.fields["old"]) == (finding.address, finding.words[0])
    ]
    return steps[-1] if steps else None


def flush_before(finding: NoBreak, machine: Machine) -> Fact:
    """Return the last flush before a finding: of the CPUs' TLBs for the domain, or any that the unit had completed."""
    tlb, unit = machine.domains[finding.domain].cpu_tlb, finding.unit
    whose = {"domain": tlb.domain} if unit is None and tlb else {"iommu": unit}
    name = "cpu_tlb.flush" if unit is None else "invalidate.complete"
    events = (one for one in machine.trace.events() if one.name == name and one.step < finding.step)
    last = max((one.step for one in events if whose.items() <= one.fields.items()), default=None)
    if last is None:
        text = "no CPU's TLB had been flushed" if unit is None else f"{unit} had completed none"
    elif unit is None:
        text = f"the CPUs' TLBs had last been flushed at step {last}"
    else:
        text = f"{unit} had completed the last one at step {last}, which did not drop the first"
    return Fact("flush", text, () if last is None else (last,), {"flushed": last})


def of_store(finding: Overrun | FreedTable | BeyondRange, trace: Trace) -> Iterator[Fact]:
    """Yield a store that should not have been made, and why."""
    source = line_of_change(trace, finding.step)
    values: dict[str, Any] = {"agent": finding.agent, "step": finding.step, "source": source}
    match finding:
        case Overrun():
            stored = f"{count(finding.count, 'entry', 'entries')} in {finding.array}"
            text = f"{finding.agent} had stored {stored} at step {finding.step}{at(source)}"
        case FreedTable():
            if finding.freed is None:
                yield Fact("freed", "a page table that led there was freed and then used by somebody else")
            else:
                agent, step = finding.freed
                line = line_of_change(trace, step)
                text = f"{agent} freed the page table, mfn {finding.frame:#x}, at step {step}{at(line)}"
                yield Fact("freed", text, (step,), {"agent": agent, "step": step, "source": line})
            text = f"{finding.agent} stored an entry of domain {finding.domain} dfn {finding.dfn:#x} into it at step "
            text += f"{finding.step}{at(source)}"
        case BeyondRange():
            yield Fact("call", "none is open" if finding.call is None else call_of(finding))
            text = f"{finding.agent} changed what domain {finding.page_domain} maps at dfn {finding.page:#x} at step "
            text += f"{finding.step}{at(source)}"
    yield Fact("store", text, (finding.step,), values)


def of_access(finding: Late | LateStatus | ForeignAccess | Illegal, trace: Trace) -> Iterator[Fact]:
    """Yield an access that should not have been made, and why."""
    match finding:
        case Late():
            yield from in_flight(finding, trace)
            promise = f"{finding.agent}'s {finding.call} promised at step {finding.promised} that this was gone"
            yield Fact("promise", promise, (finding.promised,), {"agent": finding.agent, "step": finding.promised})
            verb = "wrote to" if finding.is_write else "read"
            text = f"device {finding.device} {verb} mfn {finding.frame:#x} at step {finding.step}"
        case LateStatus():
            yield Fact("asked", f"a wait for its status was posted at step {finding.asked}", (finding.asked,))
            text = f"{finding.agent} freed mfn {finding.frame:#x} at step {finding.freed}"
            yield Fact("freed", text, (finding.freed,), {"agent": finding.agent, "step": finding.freed})
            owner = "nobody: it is free" if finding.owner is None else f"domain {finding.owner}"
            yield Fact("owner", owner, (), {"domain": finding.owner})
            text = f"{finding.unit} wrote the status to {finding.address:#x} at step {finding.step}"
        case ForeignAccess():
            steps = steps_before(finding, ("dma.program",), trace)
            yield from (Fact("programmed", f"at step {step}", (step,), {"step": step}) for step in steps[-1:])
            yield Fact("owner", programmed(finding, trace), (), {"programmed_by": finding.programmed_by})
            reached = f"mfn {finding.frame:#x}, domain {finding.domain}'s dfn {finding.dfn:#x}"
            text = f"device {finding.device} accessed {reached}, through {finding.unit} at step {finding.step}"
        case Illegal():
            text = f"device {finding.device} used leaf {finding.leaf:#x} of dfn {finding.dfn:#x} at {finding.unit}, "
            text += f"at step {finding.step}"
            yield Fact("bug", "the ledger forbids it; please report it with the command that showed it")
    yield Fact("access", text, (finding.step,), {"step": finding.step})


def in_flight(finding: Late, trace: Trace) -> Iterator[Fact]:
    """Yield when an access was translated, and the flush that did not wait for it."""
    page = f"domain {finding.domain} dfn {finding.dfn:#x}"
    steps = steps_before(finding, ("iotlb.hit", "iotlb.fill", "iotlb.bypass"), trace)
    translated = steps[-1] if steps else 0
    when = f" at step {translated}" if translated else ""
    text = f"{finding.unit} translated {page} to mfn {finding.frame:#x} for the access{when}"
    yield Fact("translated", text, (translated,) if translated else (), {"step": translated or None})
    flushed = [
        one
        for one in flushes(list(trace.events()), trace)
        if one.done.fields["iommu"] == finding.unit and translated < one.completed <= finding.promised
    ]
    if flushed:
        last = flushed[-1]
        text = (
            f"{last.agent}'s flush, submitted at step {last.submitted}{at(last.source)}, completed at step "
            f"{last.completed}, and {finding.unit} had not drained the access"
        )
        yield Fact("flush", text, (last.submitted, last.completed), {"completed": last.completed})
    else:
        yield Fact("flush", "none drained the access", (), {"completed": None})


def steps_before(finding: Late | ForeignAccess, names: tuple[str, ...], trace: Trace) -> list[int]:
    """Return the steps of a device before an access at which one of these events was about the page."""
    return [
        event.step
        for event in trace.events()
        if event.name in names and event.step < finding.step and event.fields["dfn"] == finding.dfn
        if event.agent.labels.get("device") == finding.device
    ]
