"""*told*: a call has done what its result says, and nothing else.

A call that fails reports a failure, even if it has crashed the domain; a call without a result logs it. A map that
fails leaves none of its pages mapped. A call that succeeds leaves each of its pages with the frame and the permissions
that were asked for, whatever the size of the leaf. No other page of any domain is ever mapped differently than before
the call; it may be unmapped for a while, as hardware requires when a large leaf is split.

All of this is judged by the entries that the call itself stored or read, not by those that other calls store later.

*gap*: with `refuse_gaps`, no page is unmapped between two entries that one call stores, or deferred calls of one
hypercall.
"""

from collections.abc import Iterable, Iterator

from emu.checks.findings import BeyondRange, Finding, Gap, LostError, NotRolledBack, WrongResult
from emu.hypervisor.ops import OK, MapFlags
from emu.hypervisor.records import CHANGES, REMOVALS, CallRecord
from emu.iommus.formats import FAULT, Mapping
from emu.units import Dfn, Mfn


def result_findings(record: CallRecord, step: int) -> Iterator[Finding]:
    """Yield the finding of a call's wrong result, and the finding of a page changed beyond the call's range."""
    hidden = hidden_by(record, step)
    if hidden is not None:
        yield hidden
    strays = ((*key, one) for key, one in record.beyond.items() if one.strayed or one.is_changed)
    domain, page, update = min(strays, default=(0, Dfn(0), None))
    if update is not None:
        call = (record.call, update.strayed or update.step, record.domain.number, record.dfn, record.page_count)
        yield BeyondRange(record.cpu.name, *call, page, domain)


def hidden_by(record: CallRecord, step: int) -> Finding | None:
    """Return the finding if the result of a call hides a failure or a wrong mapping; else None."""
    call = (record.cpu.name, record.call, step, record.domain.number, record.dfn, record.page_count)
    if not record.has_told:
        return LostError(*call, record.failures[0], record.has_result)
    if record.call not in CHANGES or record.is_interrupted:
        return None
    if record.result == OK:
        wrong = next((dfn for dfn in record.pages() if not is_as_asked(record, dfn)), None)
        if wrong is None:
            return None
        update = record.updates.get(wrong)
        return WrongResult(*call, wrong, update and update.new.maps(wrong), asked_for(record, wrong))
    left = next((one.dfn for one in record.updates.values() if one.is_changed and one.new.is_present), None)
    return None if record.call in {*REMOVALS, "populate"} or left is None else NotRolledBack(*call, left, record.result)


def is_as_asked(record: CallRecord, dfn: Dfn) -> bool:
    """Whether a call stored or found the mapping that it was asked for at a dfn, or had to refuse it."""
    update = record.updates.get(dfn)
    if dfn in record.refused or record.has_failed_at(dfn):
        return True
    if update is None:
        return False
    return update.new.maps(dfn) == asked_for(record, dfn)


def asked_for(record: CallRecord, dfn: Dfn) -> Mapping:
    """Return the mapping that a call was asked for at a page of its range."""
    if dfn in record.wanted:
        frame, flags = record.wanted[dfn]
    elif record.mapped is not None:
        frame, flags = Mfn(record.mapped[0] + dfn - record.dfn), record.mapped[1]
    else:
        return FAULT.maps(dfn)
    if not flags:
        return FAULT.maps(dfn)
    return Mapping(frame, MapFlags.READABLE in flags, MapFlags.WRITABLE in flags)


def gaps(record: CallRecord, step: int) -> Iterator[Gap]:
    """Yield the finding of the first page, in a call's range or beyond, that the call has unmapped for a while."""
    pages = [(record.domain.number, dfn, one) for dfn, one in record.updates.items()]
    pages += [(*key, one) for key, one in record.beyond.items()]
    found = min((one for one in pages if one[2].has_gap), default=None)
    if found is not None:
        domain, page, update = found
        yield gap(record, step, domain, page, update.gap)


def gaps_between(record: CallRecord, later: Iterable[CallRecord], step: int) -> Iterator[Gap]:
    """Yield the finding if a deferred call has unmapped a page that a later one of its domain has mapped again."""
    for dfn, before in record.updates.items():
        if before.old.is_present and not before.new.is_present:
            for one in later:
                update = one.updates.get(dfn)
                if update is not None and update.new.is_present:
                    yield gap(one, step, one.domain.number, dfn, before.gap or before.step)
                    return


def gap(record: CallRecord, step: int, domain: int, page: Dfn, cleared: int) -> Gap:
    """Return the finding of a gap that a call has ended."""
    return Gap(record.cpu.name, record.call, step, domain, record.dfn, record.page_count, page, cleared)
