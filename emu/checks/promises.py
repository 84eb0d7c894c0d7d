"""What a wrapper promises by returning success, judged at the step of the return.

*unmapped, mapped*: no unit that the domain uses may still take an old path to a page that the call changed or found:
one of which the CPUs had overwritten a word at or before the call's own change of that page. A path that gives the
very leaf that the call stored or found does no harm, and later changes by others are not its business.

*flushed*: nothing that was overwritten before the flush was called may be used in its range.

*told*: a hook that failed is reported as a failure. That the domain was crashed does not excuse it.

*owed*: a map or an unmap that returns with its CPU's iommu_dont_flush_iotlb set has promised nothing yet. What it
would have promised must hold when the hypercall ends that made it, whoever's flush has paid. Where nothing was
overwritten nothing is owed.
"""

from collections.abc import Iterable, Iterator

import attrs

from emu.checks.findings import Finding, LostError, Stale
from emu.engine import Access, Kind, Space
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import OK
from emu.hypervisor.records import CallRecord, Update
from emu.iommus.ledger import Tables
from emu.iommus.translation import FAULT
from emu.iommus.vtd.unit import VtdUnit
from emu.units import Dfn

PROMISES = {"map": "mapped", "unmap": "unmapped", "flush": "flushed", "flush_all": "flushed"}


def promise_space(unit: VtdUnit) -> Space:
    """Return the space of promises about a unit, numbered by dfn: made by a return, tested by a device's access."""
    return ("promise", unit.name)


def translators(domain: Domain) -> list[tuple[VtdUnit, Tables]]:
    """Return every unit, and every set of tables there, by which a device of the domain may be translated."""
    found: list[tuple[VtdUnit, Tables]] = []
    for device in domain.devices:
        for tables in device.unit.legal_tables(device.source_id):
            if (device.unit, tables) not in found:
                found.append((device.unit, tables))
    return found


def questions(record: CallRecord) -> Iterator[tuple[Dfn, int, Update | None]]:
    """Yield each page that a call makes a promise about: the step up to which old words count, and its update."""
    if record.call in ("map", "unmap"):
        for dfn, update in record.updates.items():
            yield dfn, update.step, update
    else:
        last = record.dfn + record.page_count - 1 if record.page_count else None
        for dfn in record.domain.known_dfns.irange(record.dfn, last):
            yield dfn, record.called, None


def runs(dfns: Iterable[Dfn]) -> Iterator[tuple[Dfn, Dfn]]:
    """Yield the ranges first..last of consecutive dfns."""
    first = last = None
    for dfn in sorted(dfns):
        if first is not None and last is not None and dfn != last + 1:
            yield first, last
            first = None
        first = dfn if first is None else first
        last = dfn
    if first is not None and last is not None:
        yield first, last


@attrs.define(eq=False)
class PromiseJudge:
    """Judges returns, and keeps what it found.

    Attributes:
        debts: the calls that were deferred and whose hypercall has not ended.
    """

    findings: list[Finding] = attrs.field(factory=list)
    debts: list[CallRecord] = attrs.field(factory=list)

    def reads(self, record: CallRecord) -> Iterable[Access]:
        """Return the promises about the pages, the ledger's objects of them, and what replaced table entries add."""
        asked = list(questions(record))
        ranges = list(runs(dfn for dfn, _, _ in asked))
        for unit, tables in translators(record.domain):
            for first, last in ranges:
                yield unit.ledger.access(tables.tag, first, last, Kind.READ)
                yield Access(promise_space(unit), first, last, Kind.COMMUTE)
            for dfn, changed, _ in asked:
                for space, number in unit.ledger.objects_read(tables, dfn, changed):
                    if space != unit.ledger.space:
                        yield Access.to(space, number, Kind.READ)

    def judge(self, record: CallRecord, step: int) -> None:
        """Judge a call at the step of its return."""
        if record.result != OK:
            return
        agent = record.cpu.name
        for failure in record.failures[:1]:
            lost = LostError(agent, record.call, step, record.domain.number, record.dfn, record.page_count, failure)
            self.findings.append(lost)
        if record.is_deferred:
            self.debts.append(record)
        else:
            self.findings.extend(stale_translations(record, step, PROMISES[record.call]))

    def settle(self, record: CallRecord, step: int) -> None:
        """Judge a deferred call at the end of its hypercall."""
        if record in self.debts:
            self.debts.remove(record)
        if record.result == OK:
            owed = list(stale_translations(record, step, "owed"))
            self.findings.extend(finding for finding in owed if not self.is_released(finding))

    def is_released(self, owed: Stale) -> bool:
        """Whether the frame of a debt was released already: that is reported, and names the debt."""
        page = (owed.domain, owed.dfn, owed.unit, owed.frame)
        return any(
            isinstance(one, Stale) and one.promise == "released" and (one.domain, one.dfn, one.unit, one.frame) == page
            for one in self.findings
        )


def stale_translations(record: CallRecord, step: int, promise: str) -> Iterator[Stale]:
    """Yield what a unit may still use although the call has promised otherwise, once a unit, page and translation."""
    for unit, tables in translators(record.domain):
        for dfn, changed, update in questions(record):
            known = {kept_leaf(unit, tables, dfn, changed, update)}
            for path in unit.ledger.old_paths(tables, dfn, changed):
                replaced = path.overwritten_by(changed)
                if replaced is None or path.translation.leaf in known:
                    continue
                known.add(path.translation.leaf)
                yield Stale(
                    promise=promise,
                    agent=record.cpu.name,
                    call=record.call,
                    step=step,
                    domain=record.domain.number,
                    dfn=dfn,
                    unit=unit.name,
                    tag=tables.tag,
                    path=path,
                    replaced=replaced,
                    changed=changed,
                    update=update,
                    flag_is_left_set=record.flag_is_left_set,
                )


def kept_leaf(unit: VtdUnit, tables: Tables, dfn: Dfn, changed: int, update: Update | None) -> int:
    """Return the leaf that does no harm, 0 for a fault: what the call left; for a flush, what stood when it began."""
    word = unit.ledger.leaf_at(tables, dfn, changed) if update is None else update.new
    return FAULT.leaf if unit.ledger.decode(word, 1) is None else word
