"""The facts of a stale translation: the promise, the change, the flush, the use, and the window."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import attrs

from emu.analysis.explanations import Explanation, explain
from emu.checks.findings import Owed, Released, Stale
from emu.engine import Trace
from emu.hypervisor.ops import OK, RESULT_NAMES
from emu.machine.machine import Machine
from emu.reports.fact import Fact
from emu.reports.stale import (
    OldTranslation,
    at,
    change_of,
    flush_clauses,
    flush_data,
    is_added,
    is_write,
    left_set,
    nearest_data,
    occasion,
    owed_by,
    still_mapped,
    waited_data,
    window,
)
from emu.reports.step_texts import led_to


def stale_facts(finding: OldTranslation, machine: Machine) -> Iterator[Fact]:
    """Yield the facts of a stale translation, in the order in which they are told."""
    trace = machine.trace
    why = explain(finding, trace)
    source = why.promise_source
    promise = {"agent": finding.agent, "call": finding.call, "step": finding.step, "source": source}
    due = f"{occasion(finding)[1]}{outcome(finding, trace)} at step {finding.step}{at(source)}{wanted(finding)}"
    yield Fact(due_label(finding), due, (finding.step,), promise)
    if why.changed is None:
        lost = () if why.taken_away is None else (why.taken_away.step,)
        yield Fact("change", f"none: {still_mapped(finding, why)}", lost)
    else:
        yield changed(finding, why, machine)
        yield from flushed(finding, why)
    if finding.use:
        yield used(finding, trace)
    if why.changed is not None:
        opened = {"opened": why.changed, "closed": why.closed, "length": why.window}
        yield Fact("window", window(why, finding).removeprefix("the window was open "), (), opened)


def due_label(finding: OldTranslation) -> str:
    """Name the moment by which a translation should have been gone."""
    return "release" if isinstance(finding, Released) else "hypercall" if isinstance(finding, Owed) else "promise"


def outcome(finding: OldTranslation, trace: Trace) -> str:
    """Say that the call of a finding returned success, if it did."""
    returned = (one for one in trace.events() if one.step == finding.step and one.name == "call.return")
    is_success = any(one.fields.get("result") == RESULT_NAMES[OK] for one in returned)
    return " success" if is_success and isinstance(finding, Stale) else ""


def wanted(finding: OldTranslation) -> str:
    """Say to what a page should have been mapped from then on."""
    if finding.wanted is None or finding.wanted.frame == finding.frame:
        return ""
    now = "unmapped" if finding.wanted.frame is None else f"mapped to mfn {finding.wanted.frame:#x}"
    return f": from then on dfn {finding.dfn:#x} should be {now}"


def changed(finding: OldTranslation, why: Explanation, machine: Machine) -> Fact:
    """Return who has replaced the entry, and what it held before and after."""
    step = why.changed or 0
    text = f"{why.changed_by} {change_of(finding)} at step {step}{at(why.change_source)}"
    values: dict[str, Any] = {"agent": why.changed_by, "step": step, "source": why.change_source}
    keys = {"old", "value", "dfn"}
    for one in (event for event in machine.trace.events() if event.step == step and keys <= event.fields.keys()):
        format_, level = machine.domains[finding.domain].format, one.fields["table_level"]
        old, new = (led_to(format_, one.fields[name], level, finding.dfn) for name in ("old", "value"))
        return Fact("change", f"{text}: {old} -> {new}", (step,), {**values, "old": old, "new": new})
    return Fact("change", text, (step,), values)


def flushed(finding: OldTranslation, why: Explanation) -> Iterator[Fact]:
    """Yield what became of the store and of the flush."""
    data, steps = flush_values(why), flush_steps(why)
    for label, clauses in groupby(flush_clauses(why, finding), key=lambda one: one[0]):
        said = "; ".join(clause for _, clause in clauses).removeprefix(f"the {label} ")
        yield Fact(label, said, steps.get(label, ()), data.get(label, {}))
    arrived = why.arrival.step if why.arrival else None
    if arrived is not None and arrived > (why.changed or 0) and "store" not in dict(flush_clauses(why, finding)):
        yield Fact("store", f"reached memory only at step {arrived}", (arrived,), data["store"])
    if why.flag_set is not None:
        yield Fact("flag", left_set(why).removeprefix("; "), (why.flag_set[0],))
    debt = owed_by(finding, why.nearest).removeprefix("; ")
    if debt:
        yield Fact("debt", debt)


def flush_steps(why: Explanation) -> dict[str, tuple[int, ...]]:
    """Return the steps that each fact about the store and the flush is about."""
    near, own = (() if one is None else (one.flush.submitted, one.flush.completed) for one in (why.nearest, why.own))
    arrived = why.arrival.step if why.arrival else None
    written = why.written_back.step if why.written_back else None
    early = why.ended_early.step if why.ended_early else None
    omitted = (why.omission.skipped, why.omission.step) if why.omission else ()
    flush = (why.flush.submitted, why.given_up, early, why.flush.completed) if why.flush else near or omitted
    found = {
        "store": (arrived, written, *(near if why.flush is None else ())),
        "flush": flush,
        "near miss": near,
        "own flush": (*own, arrived),
    }
    return {label: tuple(step for step in steps if step) for label, steps in found.items()}


def flush_values(why: Explanation) -> dict[str, dict[str, Any]]:
    """Return the values of each fact about the store and the flush."""
    near, own = (nearest_data(one) if one else {} for one in (why.nearest, why.own))
    return {
        "store": {"reached_memory": why.arrival.step if why.arrival else None},
        "flush": flush_data(why.flush) | waited_data(why) if why.flush else near,
        "near miss": near,
        "own flush": own,
    }


def used(finding: OldTranslation, trace: Trace) -> Fact:
    """Return which device has used the translation."""
    use, added = finding.use, finding.use is not None and is_added(finding.use, trace)
    if use is None:
        return Fact("use", "none was seen")
    verb = "wrote to" if is_write(use, trace) else "read"
    what = f"dfn {finding.dfn:#x}" if finding.frame is None else f"mfn {finding.frame:#x}"
    access = f"was refused {what}" if finding.is_fault else f"{verb} {what}"
    said = f"device {use.device} {access} through {finding.unit} at step {use.step}"
    said += " (an access that emu has added)" if added else ""
    return Fact("use", said, (use.step,), {**attrs.asdict(use), "iommu": finding.unit, "is_added": added})
