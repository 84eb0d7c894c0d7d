"""Stale translations in words: the translation, the promise, the change, and what became of the flush."""

from typing import Any

import cattrs

from emu.analysis.explanations import Explanation
from emu.analysis.flushes import Flush, Miss, Shortfall
from emu.analysis.waits import EarlyEnd, Reason
from emu.checks.details import Held, Payment, Use
from emu.checks.findings import Owed, Released, Stale
from emu.checks.promises import TAKEN_BACK
from emu.engine import Trace
from emu.hypervisor.records import CallRecord
from emu.machine.role import is_witness
from emu.reports.counts import count

OldTranslation = Stale | Owed | Released

PERMITTED = {
    (True, True): "read and write",
    (True, False): "only read",
    (False, True): "only write",
    (False, False): "do nothing",
}
"""A translation's permissions in words, by whether it permits reads, and writes."""


def stale_sentence(finding: OldTranslation, why: Explanation, trace: Trace) -> str:
    """Say what is stale and since when, which promise is broken, and which flush was late or missing."""
    what, moment = occasion(finding)
    use = f", and did for device {finding.use.device} at step {finding.use.step}" if finding.use else ""
    said = (
        f"{what} ({evidence(finding, trace)}): when {moment} at step {finding.step}{at(why.promise_source)}, "
        f"{finding.unit} could still {harm(finding)}{use}: "
    )
    if why.changed is None:
        return said + still_mapped(finding, why)
    return (
        f"{said}{why.changed_by} had {change_of(finding)} at step {why.changed}{at(why.change_source)}, and "
        f"{flush_words(why, finding)}{left_set(why)}{owed_by(finding, why.nearest)}; {window(why, finding)}"
    )


def window(why: Explanation, finding: OldTranslation) -> str:
    """Say from when to when the translation could be used, and for how long after it should have been gone."""
    to = f"step {why.closed}" if why.flush else f"the end of the execution at step {why.closed}"
    after = why.closed - finding.step
    past = f", {count(after, 'step')} past {due(finding)}" if after else ""
    return f"the window was open from step {why.changed} to {to}{past}"


def due(finding: OldTranslation) -> str:
    """Name the moment at which a translation should have been gone."""
    match finding:
        case Released():
            return "the release"
        case Owed():
            return "the hypercall"
        case Stale():
            return "the return"


def still_mapped(finding: OldTranslation, why: Explanation) -> str:
    """Say that the page is still mapped, and which device the domain had lost before."""
    is_table = isinstance(finding, Released) and finding.table
    said = "no entry on the way to it had been replaced" if is_table else "it was still mapped there"
    if why.taken_away is None:
        return said
    lost = why.taken_away
    return (
        f"{said}; {lost.agent} had cleared the entry of device {lost.device} at step {lost.step}{at(lost.source)}, and "
        f"{finding.unit} had not yet dropped all that it may have cached through that entry"
    )


def occasion(finding: OldTranslation) -> tuple[str, str]:
    """Return the name of a finding, and the moment by which the translation should have been gone."""
    page = f"domain {finding.domain} dfn {finding.dfn:#x}"
    match finding:
        case Released():
            verb = "freed" if finding.call == "put_page" else "gave away"
            what, moment = "released", f"{finding.agent} {verb} mfn {finding.frame:#x}"
        case Owed():
            what = "flush owed"
            moment = f"{finding.agent}'s hypercall, which had put off the flush of its {finding.call} of {page}, ended"
        case Stale():
            returned = "returned an error" if finding.promise == TAKEN_BACK else "returned"
            what, moment = "stale translation", f"{finding.agent}'s {finding.call} of {page} {returned}"
    return "stale fault" if finding.is_fault else what, moment


def evidence(finding: OldTranslation, trace: Trace) -> str:
    """Return the evidence, and whether the use is a read that was added to show the finding."""
    if finding.use and is_added(finding.use, trace):
        access = "write" if is_write(finding.use, trace) else "read"
        return f"{finding.evidence.value}, by a {access} that emu has added"
    return finding.evidence.value


def is_added(use: Use, trace: Trace) -> bool:
    """Whether a use is a read by a witness."""
    return is_witness(trace.agent_of(use.step))


def is_write(use: Use, trace: Trace) -> bool:
    """Whether a use is a write, made or refused."""
    made = (event for event in trace.events() if event.step == use.step and not event.is_note)
    return any(event.name == "dma.write" or event.fields.get("access") == "write" for event in made)


def harm(finding: OldTranslation) -> str:
    """Say what a unit could still do, with the permissions where only these are wrong."""
    if isinstance(finding, Released):
        page = f"domain {finding.domain}'s dfn {finding.dfn:#x}"
        return f"use it as a page table for {page}" if finding.table else f"translate {page} to it"
    old, new = finding.path.translation, finding.wanted
    if finding.is_fault:
        may_only = "writes" if old.read else "reads" if old.write else "access"
        return f"refuse {may_only if finding.lacks_permissions else 'access'} to dfn {finding.dfn:#x}"
    said = f"translate dfn {finding.dfn:#x} to mfn {finding.frame:#x}"
    permitted = (old.read, old.write)
    if new is None or new.frame != finding.frame or permitted == (new.read, new.write):
        return said
    return f"{said} and let devices {PERMITTED[permitted]}, not {PERMITTED[new.read, new.write]}"


def change_of(finding: OldTranslation) -> str:
    """Say how the entry was changed on which the old translation depends."""
    if finding.lacks_permissions:
        return "given a table entry on the way there more permissions"
    return "replaced a table entry on the way there" if finding.replaces_table else "replaced that entry"


PAYMENTS = {
    Payment.WRONG_RANGE: "; what it flushed was other pages",
    Payment.WRONG_DOMAIN: "; what it flushed was another domain",
    Payment.INEFFECTIVE: "; it had flushed the page, to no effect",
    Payment.FAILED: "; its flush of the page had failed",
    Payment.CONTINUED: "; a continuation put it off once more",
}

NAMED_BY_NEAREST = {Payment.WRONG_RANGE}
"""The payments that are left out where the nearest flush is named: its range says more."""


def owed_by(finding: OldTranslation, near: Miss | None) -> str:
    """Say what became of an owed flush; for a released frame, whose deferred call owed the flush."""
    match finding:
        case Owed():
            is_said = near is not None and near.shortfalls != (Shortfall.EARLY,) and finding.payment in NAMED_BY_NEAREST
            return "" if is_said else PAYMENTS.get(finding.payment, "")
        case Released(debt=CallRecord() as debt):
            return f"; {debt.cpu.name}'s {debt.call} had put the flush off"
        case _:
            return ""


def left_set(why: Explanation) -> str:
    """Say that iommu_dont_flush_iotlb was still set, and where it had been set."""
    if why.flag_set is None:
        return ""
    step, source = why.flag_set
    return f"; iommu_dont_flush_iotlb was still set, since step {step}{at(source)}"


def flush_words(why: Explanation, finding: OldTranslation) -> str:
    """Say what became of the store and of the flush."""
    return "; ".join(clause for _, clause in flush_clauses(why, finding))


def flush_clauses(why: Explanation, finding: OldTranslation) -> list[tuple[str, str]]:
    """Return what is to be said of the store, of the flush, and of flushes that missed: each with its subject."""
    flush, near = why.flush, why.nearest
    others = [("near miss", nearest_words(near, finding))] if near else []
    own = [("own flush", own_words(why.own, finding))] if why.own else []
    if why.arrival is not None and why.arrival.step is None:
        vain = in_vain(why)
        return [("store", f"the store never reached memory: {lost_store(why)}"), *([("flush", vain)] if vain else [])]
    if flush is not None:
        return [("flush", late_flush(why, flush)), *others, *own]
    if near is None or why.has_unfinished:
        return [("flush", no_flush(why)), *others, *own]
    if near.shortfalls == (Shortfall.UNSEEN,):
        return [("store", late_store(near.flush, finding)), *own]
    return [("flush", nearest_words(near, finding)), ("flush", "no other followed"), *own]


def late_flush(why: Explanation, flush: Flush) -> str:
    """Say when the flush came that removed the translation at last."""
    if flush.submitted < (why.changed or 0):
        return (
            f"only a flush from before has removed it: {flush.agent} had submitted one at step {flush.submitted}"
            f"{at(flush.source)}, {waited(why)}and it began afterwards and completed at step {flush.completed}"
        )
    what = "the flush came late" if why.is_flush_of_call else "only a later call's flush has removed it"
    return (
        f"{what}: {flush.agent} submitted it at step {flush.submitted}"
        f"{at(flush.source)}, {waited(why)}and it completed at step {flush.completed}"
    )


def no_flush(why: Explanation) -> str:
    """Say that no flush has removed the translation, and which call returned without one."""
    missing = why.omission
    if why.has_unfinished:
        return "no flush of it had completed when the execution ended"
    if missing is None:
        return "no flush of it followed"
    skipped = f"; at step {missing.skipped} it had found no domain id there" if missing.skipped else ""
    return (
        f"no flush of it followed: {why.changed_by}'s {missing.call} returned without one at step {missing.step}"
        f"{at(missing.source)}{skipped}"
    )


def lost_store(why: Explanation) -> str:
    """Say which drain or write-back a store lacked to reach memory."""
    if why.arrival is not None and why.arrival.held is Held.BUFFER:
        return "nothing drained the chipset's write buffer after it"
    if why.written_back is None:
        return "nobody wrote its cache line back after it"
    before = why.written_back
    return (
        f"{before.agent} wrote its cache line back at step {before.step}{at(before.source)}, before the store, and "
        "nobody did so after it"
    )


def in_vain(why: Explanation) -> str:
    """Name the flush that had no effect because the store before it never reached memory."""
    if why.nearest is None or why.nearest.flush.submitted < (why.changed or 0):
        return ""
    flush = why.nearest.flush
    return (
        f"walks could read the old entry even after {flush.agent}'s flush, submitted at step {flush.submitted}"
        f"{at(flush.source)} and completed at step {flush.completed}"
    )


def late_store(flush: Flush, finding: OldTranslation) -> str:
    """Say that a store reached memory only after its flush had begun."""
    seen = finding.arrival.step if finding.arrival else None
    return (
        f"the store reached memory late, at step {seen}: {flush.agent}'s flush, submitted at step {flush.submitted}"
        f"{at(flush.source)}, had begun at step {flush.began}, and no other followed"
    )


def nearest_words(miss: Miss, finding: OldTranslation) -> str:
    """Name the flush that came nearest to removing an entry, and say why it failed to."""
    flush = miss.flush
    reasons = " and ".join(fell_short(one, flush, finding) for one in miss.shortfalls)
    return (
        f"{flush.agent}'s flush, submitted at step {flush.submitted}{at(flush.source)} and completed at step "
        f"{flush.completed}, {reasons}"
    )


def own_words(miss: Miss, finding: OldTranslation) -> str:
    """Say that the flush by the call that promised came before the store had reached memory."""
    flush = miss.flush
    return (
        f"{flush.agent}'s own flush, submitted at step {flush.submitted}{at(flush.source)} and completed at step "
        f"{flush.completed}, {fell_short(Shortfall.UNSEEN, flush, finding)}"
    )


def fell_short(shortfall: Shortfall, flush: Flush, finding: OldTranslation) -> str:
    """Say one reason why a flush did not remove an entry."""
    keys = flush.done.fields
    match shortfall:
        case Shortfall.EARLY:
            return "came too early, before the change"
        case Shortfall.UNSEEN:
            seen = finding.arrival.step if finding.arrival else None
            return f"came too early: it began at step {flush.began}, and the store reached memory at step {seen}"
        case Shortfall.LEAVES:
            return "was of leaves only and let cached table entries stay"
        case Shortfall.PAGE:
            last = keys["dfn"] + (1 << keys["page_order"]) - 1
            return f"covered dfn {keys['dfn']:#x}" + (f" to {last:#x} only" if keys["page_order"] else " only")
        case Shortfall.TAG:
            return f"had tag {keys['tag']}, and at {finding.unit} domain {finding.domain} has tag {finding.tag}"
        case Shortfall.UNIT:
            return f"was at {keys['iommu']}"


def waited(why: Explanation) -> str:
    """Say that the flush's CPU did not wait for it, or stopped waiting before it had completed."""
    if why.given_up is not None:
        return f"gave up waiting for it after step {why.given_up}, "
    if why.is_unawaited:
        return "did not wait for it, "
    return "" if why.ended_early is None else f"{ended_early(why.ended_early)}, "


def ended_early(end: EarlyEnd) -> str:
    """Say how a wait ended before its flush had completed."""
    if end.reason is Reason.NOT_RESET:
        since = f"since step {end.written}" if end.written else "from the start"
        return f"did not wait for it, for its status word held the awaited value {since}"
    how = f"ended its wait at step {end.step}, by "
    match end.reason:
        case Reason.GIVEN_UP:
            return f"{how}the late status of a flush that it had asked for at step {end.asked} and given up"
        case Reason.ANOTHER:
            return f"{how}the status that {end.asked_by} had asked for at step {end.asked}"
        case Reason.TOO_SOON:
            return f"{how}a status that it had asked for at step {end.asked}, before the flush"
        case Reason.NO_FENCE:
            return f"{how}a status asked for at step {end.asked}, which did not wait for the flush"
    return f"{how}a value that no unit wrote"


def at(source: str | None) -> str:
    """Return a source line in brackets, if it is known."""
    return f" ({source})" if source else ""


def stale_data(finding: OldTranslation, why: Explanation, trace: Trace) -> dict[str, Any]:
    """Return a stale translation and its explanation as JSON data."""
    return {
        "evidence": finding.evidence.value,
        "promise": finding.promise,
        "payment": finding.payment.value if isinstance(finding, Owed) else None,
        "agent": finding.agent,
        "call": finding.call,
        "step": finding.step,
        "domain": finding.domain,
        "dfn": finding.dfn,
        "mfn": finding.frame,
        "iommu": finding.unit,
        "tag": finding.tag,
        "use": cattrs.unstructure(finding.use),
        "use_was_added": finding.use is not None and is_added(finding.use, trace),
        "changed_by": why.changed_by,
        "changed": why.changed,
        "change_source": why.change_source,
        "promise_source": why.promise_source,
        "store_reached_memory": why.arrival.step if why.arrival else None,
        "flush": flush_data(why.flush) | waited_data(why) if why.flush else None,
        "nearest_flush": nearest_data(why.nearest) if why.nearest else None,
        "own_flush": nearest_data(why.own) if why.own else None,
        "omission": cattrs.unstructure(why.omission),
        "flag_set": cattrs.unstructure(why.flag_set),
        "last_step": why.last_step,
        "window": why.window,
        "window_after_promise": why.closed - finding.step,
    }


def flush_data(flush: Flush) -> dict[str, Any]:
    """Return a flush as JSON data: its agent, its steps, and what it covered."""
    who = {"agent": flush.agent, "submitted": flush.submitted, "completed": flush.completed, "source": flush.source}
    covered = ("iommu", "tag", "dfn", "page_order", "leaf_only")
    return who | {key: value for key, value in flush.done.fields.items() if key in covered}


def waited_data(why: Explanation) -> dict[str, Any]:
    """Return as JSON data how the wait for a flush went."""
    return {
        "given_up": why.given_up,
        "is_awaited": not why.is_unawaited,
        "ended_early": cattrs.unstructure(why.ended_early),
    }


def nearest_data(miss: Miss) -> dict[str, Any]:
    """Return the nearest flush as JSON data, with the reasons why it did not remove the entry."""
    return {**flush_data(miss.flush), "shortfalls": [one.value for one in miss.shortfalls]}
