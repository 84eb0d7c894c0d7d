"""The promise that a wrapper makes by returning, judged at the step of the return.

*unmapped, mapped*: no unit that the domain uses may still take an old path to a page that the call changed or found.
A path is old if the CPUs have overwritten one of its words at or before the call's own change of that page. A path to
the very leaf that the call stored or found does no harm, and later changes by others do not count.

*flushed*: no path in the flush's range may read a value of which walkers could read a newer one when the flush was
called.

*taken back*: a call that fails makes the same promise about each page of which it has stored an entry. The caller does
not know these pages, so nobody else will flush them. If a flush of the call itself has failed, it promises nothing.

*told* (results.py): the call has done what its result says.

*interrupted*: a call that returns -ERESTART promises nothing. The call that goes on with its work answers for both.

*owed*: a map or an unmap that returns with its CPU's iommu_dont_flush_iotlb set promises nothing yet. The promise of
its result must hold when its hypercall ends, whichever CPU's flush has paid. A call that has overwritten nothing owes
nothing. A later successful call of the same CPU for the same page takes the debt over, whether or not it is deferred
itself. A finding names the payment: what became of the debt.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import inf
from typing import NamedTuple, TypeVar

import attrs

from emu.checks.details import Arrival, Held, Payment
from emu.checks.findings import Finding, OldPath, Owed, Released, Stale
from emu.checks.results import gaps, gaps_between, result_findings
from emu.engine import Access, Kind, Space
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import OK
from emu.hypervisor.records import BOOT_CALLS, CHANGES, CallRecord, Update
from emu.iommus.formats import FAULT, Mapping, Translation
from emu.iommus.paths import Path, Tables
from emu.iommus.unit import Unit
from emu.units import Dfn, Mfn

PROMISES = {
    **{call: f"mapped by {call}" for call in BOOT_CALLS},
    "map": "mapped",
    "unmap": "unmapped",
    "guest_physmap_add_entry": "mapped",
    "guest_physmap_remove_page": "unmapped",
    "flush": "flushed",
    "flush_all": "flushed",
}
TAKEN_BACK = "taken back"


class Promise(NamedTuple):
    """A promise that no value is used any more which the CPUs had replaced up to step `changed`; and its maker.

    Attributes:
        update: the page as the call stored or found it; None for a flush, and for a release.
        frame: the released frame; None where the promise is about a page, whatever its frame.
    """

    changed: int
    agent: str
    call: str
    step: int
    update: Update | None = None
    frame: Mfn | None = None


def promise_space(unit: Unit) -> Space:
    """Return the space of promises about a unit, numbered by dfn: a return makes them, a device's access tests them."""
    return ("promise", unit.name)


def tables_of_domain(units: Sequence[Unit], domain: Domain) -> list[tuple[Unit, Tables]]:
    """Return each unit with each tag under which the domain's tables translate there, or ever have."""
    return [(unit, tables) for unit in units for root in domain.roots for tables in unit.tables_at(root)]


def device_reads(units: Sequence[Unit]) -> Iterator[Access]:
    """Yield the reads of `tables_of_domain`: the entries of every device, because any may be given to the domain."""
    for unit in units:
        for source_id in unit.sources:
            yield from reads_of(unit.device_reads(source_id))


def reads_of(objects: Iterable[tuple[Space, int]]) -> Iterator[Access]:
    """Return the reads of single objects."""
    return (Access.to(space, number, Kind.READ) for space, number in objects)


def questions(record: CallRecord) -> Iterator[tuple[Dfn, int, Update | None]]:
    """Yield each page about which a call makes a promise: the step up to which old words count, and its update."""
    if record.call in CHANGES:
        for dfn, update in record.updates.items():
            if record.result == OK or update.is_stored:
                yield dfn, update.step, update
    else:
        for dfn in record.known:
            yield dfn, record.called, None


def takes_back(record: CallRecord) -> bool:
    """Whether a failed call makes a promise: it is a map or an unmap, and no flush of its own has failed."""
    return record.call in CHANGES and not record.is_interrupted and not flush_has_failed(record)


def flush_has_failed(record: CallRecord) -> bool:
    """Whether a flush of a call has failed."""
    return any(one.hook.startswith("iotlb_flush") for one in record.failures)


def is_made(record: CallRecord) -> bool:
    """Whether a call makes a promise by its return: it has succeeded, or it takes back what it did.

    A call without a result has logged a flush of its own that failed.
    """
    if record.result == OK and (record.has_result or not flush_has_failed(record)):
        return True
    return takes_back(record)


def ranges_of(dfns: Iterable[Dfn]) -> Iterator[tuple[Dfn, Dfn]]:
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
    """Judges returns, and keeps its findings.

    Attributes:
        units: the units of the machine.
        debts: the calls that were deferred and whose hypercall has not ended.
        flushes: the explicit flushes that have returned.
        promised: the promises about each page, releases of its frame among them, by (domain, dfn).
        succeeded: the step at which the last successful call stored or found a page, by (CPU, domain, dfn).
        refuses_gaps: a page that is mapped before and after a change must be mapped all the time.
    """

    units: Sequence[Unit]
    findings: list[Finding] = attrs.field(factory=list)
    debts: list[CallRecord] = attrs.field(factory=list)
    flushes: list[CallRecord] = attrs.field(factory=list)
    promised: dict[tuple[int, Dfn], list[Promise]] = attrs.field(factory=dict)
    succeeded: dict[tuple[str, int, Dfn], int] = attrs.field(factory=dict)
    refuses_gaps: bool = False

    def reads(self, record: CallRecord) -> Iterable[Access]:
        """Return the promises about the pages, their objects in the ledger, and the words below replaced entries."""
        asked = list(questions(record))
        ranges = list(ranges_of(dfn for dfn, _, _ in asked))
        yield from device_reads(self.units)
        for unit, tables in tables_of_domain(self.units, record.domain):
            for first, last in ranges:
                yield unit.ledger.access(tables.tag, first, last, Kind.READ)
                yield Access(promise_space(unit), first, last, Kind.COMMUTE)
            for dfn, changed, _ in asked:
                for space, number in unit.ledger.objects_read(tables, dfn, changed):
                    if space != unit.ledger.space:
                        yield Access.to(space, number, Kind.READ)

    def judge(self, record: CallRecord, step: int) -> None:
        """Judge a call at the step of its return."""
        self.findings.extend(result_findings(record, step))
        if self.refuses_gaps:
            self.findings.extend(gaps(record, step))
        if record.call not in CHANGES:
            self.flushes.append(record)
        elif record.result == OK:
            for dfn, update in record.updates.items():
                self.succeeded[record.cpu.name, record.domain.number, dfn] = update.step
        if record.is_deferred:
            self.debts.append(record)
        elif is_made(record):
            self.keep(record, step)
            make = partial(Stale, promise=PROMISES[record.call] if record.result == OK else TAKEN_BACK)
            self.findings.extend(old_paths(self.units, record, step, make))

    def settle(self, record: CallRecord, step: int) -> None:
        """Judge a deferred call at the end of its hypercall."""
        self.debts.remove(record)
        if self.refuses_gaps:
            self.findings.extend(gaps_between(record, self.debts_of(record), step))
        if not is_made(record):
            return
        self.keep(record, step)
        make = partial(Owed, debt=record, payment=Payment.NEVER)
        for owed in old_paths(self.units, record, step, make):
            if not self.is_known(owed) and not self.is_taken_over(record, owed.dfn):
                self.findings.append(attrs.evolve(owed, payment=self.payment(record, owed.dfn)))

    def keep(self, record: CallRecord, step: int) -> None:
        """Keep the promises of a call: an access that no invalidation has drained may come after them."""
        for dfn, changed, update in questions(record):
            if not self.is_taken_over(record, dfn):
                promise = Promise(changed, record.cpu.name, record.call, step, update)
                self.promised.setdefault((record.domain.number, dfn), []).append(promise)

    def is_taken_over(self, record: CallRecord, dfn: Dfn) -> bool:
        """Whether a later call of the same CPU for a page of the same domain has succeeded.

        That call answers for all that was overwritten before its own change, and decides the mapping of the page.
        """
        update = record.updates.get(dfn)
        last = self.succeeded.get((record.cpu.name, record.domain.number, dfn), 0)
        return update is not None and last > update.step

    def debts_of(self, record: CallRecord) -> list[CallRecord]:
        """Return the deferred calls of the same CPU for the same domain that are not settled, the first call first."""
        return [one for one in self.debts if one.cpu is record.cpu and one.domain is record.domain]

    def is_known(self, owed: Owed) -> bool:
        """Whether a debt is reported already: by a release of the frame, or as owed by the same CPU."""
        return any(
            (one.page, one.change) == (owed.page, owed.change)
            for one in self.findings
            if isinstance(one, Released) or (isinstance(one, Owed) and one.debt.cpu is owed.debt.cpu)
        )

    def payment(self, debt: CallRecord, dfn: Dfn) -> Payment:
        """Return what the CPU that owes a flush has done about it."""
        flushed = [one for one in self.flushes if one.cpu is debt.cpu and one.called >= debt.returned]
        same_domain = [one for one in flushed if one.domain is debt.domain]
        covering = [one for one in same_domain if one.covers(dfn)]
        if covering:
            return Payment.INEFFECTIVE if any(one.result == OK for one in covering) else Payment.FAILED
        if debt.is_continued:
            return Payment.CONTINUED
        if flushed:
            return Payment.WRONG_RANGE if same_domain else Payment.WRONG_DOMAIN
        return Payment.NEVER

    def conclude(self) -> None:
        """Note when the stores behind the findings reached memory, and mark the debts that were paid late."""
        for index, one in enumerate(self.findings):
            if isinstance(one, OldPath):
                found = attrs.evolve(one, arrival=self.arrival(one))
                if isinstance(found, Owed) and found.payment is Payment.NEVER and not self.is_legal(found):
                    found = attrs.evolve(found, payment=Payment.LATE)
                self.findings[index] = found

    def arrival(self, finding: OldPath) -> Arrival | None:
        """Return when the store that replaced an entry reached memory."""
        entry = finding.replaced
        if entry is None or entry.overwritten is None:
            return None
        memory = self.units[0].ledger.memory
        step = memory.reached(entry.address, entry.overwritten)
        if step < inf:
            return Arrival(int(step))
        return Arrival(None, Held.CACHE if entry.address in memory.dirty else Held.BUFFER)

    def is_legal(self, finding: OldPath) -> bool:
        """Whether an old path still gives the translation of a finding."""
        unit = next(unit for unit in self.units if unit.name == finding.unit)
        return any(
            path.translation == finding.path.translation
            for tables in unit.tables_at(finding.root)
            if tables.tag == finding.tag
            for path in unit.ledger.old_paths(tables, finding.dfn, finding.changed)
        )


Old = TypeVar("Old", bound=OldPath)


def old_paths(units: Sequence[Unit], record: CallRecord, step: int, make: Callable[..., Old]) -> Iterator[Old]:
    """Yield the old paths that break a call's promise, one for each unit, page and translation.

    Args:
        make: makes the finding.
    """
    found: set[tuple[str, int, Dfn, int]] = set()
    for unit, tables in tables_of_domain(units, record.domain):
        for dfn, changed, update in questions(record):
            kept = kept_leaf(unit, tables, dfn, changed, update)
            for path in unit.ledger.old_paths(tables, dfn, changed):
                replaced = path.outdated_by(changed) if update is None else path.overwritten_by(changed)
                one = (unit.name, tables.tag, dfn, path.translation.leaf)
                is_kept = is_harmless(path.translation, dfn, kept, update)
                is_short = unit.ledger.counts_widening and permits_less_than_its_leaf(unit, path)
                if replaced is None or (is_kept and not is_short) or one in found:
                    continue
                found.add(one)
                yield make(
                    agent=record.cpu.name,
                    call=record.call,
                    step=step,
                    domain=record.domain.number,
                    dfn=dfn,
                    unit=unit.name,
                    tag=tables.tag,
                    root=tables.root,
                    path=path,
                    replaced=replaced,
                    changed=changed,
                    update=update,
                    lacks_permissions=is_kept,
                    wanted=wanted(unit, path, dfn, kept, update),
                )


def wanted(unit: Unit, path: Path, dfn: Dfn, kept: int, update: Update | None) -> Mapping:
    """Return what an old path should have given way to: what the call left; for a flush, what stood when it began."""
    if update is not None:
        return update.new.maps(dfn)
    entry = unit.format.decode(kept, path.entries[-1].level)
    if entry is None or not entry.is_leaf:
        return FAULT.maps(dfn)
    return Translation(kept, entry.order, entry.read, entry.write, entry.address).maps(dfn)


def permits_less_than_its_leaf(unit: Unit, path: Path) -> bool:
    """Whether a table entry of a path refuses an access that the path's leaf permits."""
    translation = path.translation
    leaf = unit.format.decode(translation.leaf, path.entries[-1].level)
    return leaf is not None and (translation.read < leaf.read or translation.write < leaf.write)


def kept_leaf(unit: Unit, tables: Tables, dfn: Dfn, changed: int, update: Update | None) -> int:
    """Return the leaf that does no harm, 0 for a fault: the leaf that the call left, or that a flush began with."""
    if update is not None:
        return update.new.leaf
    return unit.ledger.leaf_at(tables, dfn, changed)


def is_harmless(used: Translation, dfn: Dfn, kept: int, update: Update | None) -> bool:
    """Whether a translation has the kept leaf, or a leaf of another size that maps the page in the same way."""
    if used.leaf == kept:
        return True
    return update is not None and used.order != update.new.order and used.maps(dfn) == update.new.maps(dfn)
