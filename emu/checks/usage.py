"""The accesses that devices make: evidence for findings, and the emulator's check of itself."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import attrs

from emu.checks.details import Use
from emu.checks.findings import Finding, ForeignAccess, Illegal, Late, OldPath, Released
from emu.checks.promises import Promise, is_harmless, kept_leaf, promise_space
from emu.engine import Access, Kind
from emu.hypervisor.domain import Domain
from emu.iommus.iotlb import IotlbEntry
from emu.iommus.paths import Tables
from emu.iommus.requests import Request, TableRead
from emu.iommus.unit import Unit
from emu.units import Dfn, Maddr, address_frame


@attrs.define(eq=False)
class UsageWatch:
    """Judges every access that a device makes.

    An access by an old path that a promise forbids turns *possible* evidence into *observed*. An access that the ledger
    does not allow is a bug of emu. This self-check reads the ledger without declaring the reads, which no other check
    does: its answer is the same under every schedule. An access through the tables of another domain than the one whose
    driver programmed it is a finding.

    Attributes:
        domains: returns all domains of the machine.
        promised: the promises about each page, by (domain, dfn).
        names: the names of the devices, by source-id.
    """

    findings: list[Finding]
    domains: Callable[[], Iterable[Domain]]
    promised: Mapping[tuple[int, Dfn], Sequence[Promise]]
    names: dict[int, str] = attrs.field(factory=dict)

    def reads(self, unit: Unit, request: Request, entry: IotlbEntry | None) -> Iterable[Access]:
        """Return the read of the promises about the page."""
        return (Access.to(promise_space(unit), request.dfn, Kind.READ),)

    def committed(self, unit: Unit, request: Request, entry: IotlbEntry, step: int) -> None:
        """Judge an access at the step at which it was made through an entry."""
        device = self.names[request.source_id]
        for index, finding in enumerate(self.findings):
            if isinstance(finding, OldPath) and finding.use is None and uses_old_path(unit, request, entry, finding):
                self.findings[index] = attrs.evolve(finding, use=Use(device, step))
        if request.is_undrained:
            self.findings.extend(self.late(unit, request, entry, step))
        elif not self.is_legal(unit, request, entry):
            self.findings.append(Illegal(device, step, unit.name, request.dfn, entry.translation.leaf))
        domain = domain_of(self.domains(), unit, entry)
        if domain is not None and request.programmed_by not in {None, domain.number}:
            self.findings.extend(self.foreign(unit, request, entry, domain, step))

    def refused(self, unit: Unit, request: Request, step: int) -> None:
        """Note the use of a frame that was released, where the walk has read it as a page table."""
        for index, finding in enumerate(self.findings):
            if isinstance(finding, Released) and finding.use is None and walks_through(unit, request, finding):
                self.findings[index] = attrs.evolve(finding, use=Use(self.names[request.source_id], step))

    def foreign(
        self, unit: Unit, request: Request, entry: IotlbEntry, domain: Domain, step: int
    ) -> Iterator[ForeignAccess]:
        """Yield the finding if an access that another domain's driver had programmed was let through."""
        if request.programmed_by is not None and entry.permits(is_write=request.is_write):
            device, frame = self.names[request.source_id], entry.frame(request.dfn)
            yield ForeignAccess(device, step, unit.name, request.dfn, frame, request.programmed_by, domain.number)

    def is_legal(self, unit: Unit, request: Request, entry: IotlbEntry) -> bool:
        """Whether the ledger allows the translation that an access has used."""
        found = (tables for tables in unit.tables_found(request.source_id) if tables.tag == entry.tag)
        return any(entry.translation in unit.ledger.legal(tables, request.dfn) for tables in found)

    def late(self, unit: Unit, request: Request, entry: IotlbEntry, step: int) -> Iterator[Late]:
        """Yield the finding if an access that was not drained breaks a promise made before it.

        If it breaks several, the finding names the first promise of the agent whose name comes first: the order of
        different agents' promises may differ between equivalent schedules.
        """
        domain, frame = domain_of(self.domains(), unit, entry), entry.frame(request.dfn)
        if domain is None:
            return
        device = self.names[request.source_id]
        highest = table_reads(unit, entry)[0]
        tables = Tables(entry.tag, unit.format.table_of(highest.address, entry.dfn, highest.level), highest.level)
        promised = self.promised.get((domain.number, request.dfn), ())
        is_mapped_again = leaves_mapped(request.dfn, entry, promised)
        broken = [
            promise
            for promise in promised
            if promise.frame == frame or (promise.frame is None and not is_mapped_again)
            if is_broken(unit, tables, request.dfn, entry, promise)
        ]
        if broken and entry.permits(is_write=request.is_write):
            first = min(broken, key=lambda promise: (promise.agent, promise.step))
            made = (first.agent, first.call, first.step)
            yield Late(device, step, unit.name, domain.number, request.dfn, frame, request.is_write, *made)


def domain_of(domains: Iterable[Domain], unit: Unit, entry: IotlbEntry) -> Domain | None:
    """Return the domain in whose tables a walk found an entry; None if the request passed through untranslated."""
    root = root_of(unit, entry)
    return None if root is None else next(domain for domain in domains if root in domain.roots)


def root_of(unit: Unit, entry: IotlbEntry) -> Maddr | None:
    """Return the highest table that the walk to an entry read; None if it read none."""
    first = next(iter(table_reads(unit, entry)), None)
    return None if first is None else unit.format.table_of(first.address, entry.dfn, first.level)


def table_reads(unit: Unit, entry: IotlbEntry) -> list[TableRead]:
    """Return the words of page tables that the walk to an entry read, the highest first."""
    return [read for read in entry.reads if read.level != unit.format.device_level]


def uses_old_path(unit: Unit, request: Request, entry: IotlbEntry, finding: OldPath) -> bool:
    """Whether an access used the stale translation of a finding, through an entry that had been replaced."""
    used = (unit.name, request.dfn, entry.tag, entry.translation)
    if used != (finding.unit, finding.dfn, finding.tag, finding.path.translation):
        return False
    if isinstance(finding, Released):
        return True
    return is_replaced(unit, table_reads(unit, entry), finding.changed, is_seen=finding.update is None)


def walks_through(unit: Unit, request: Request, finding: Released) -> bool:
    """Whether the walk of a request has read the frame of a finding as a page table."""
    if (unit.name, request.dfn, request.tag) != (finding.unit, finding.dfn, finding.tag):
        return False
    return any(address_frame(Maddr(read.address)) == finding.table for read in request.reads)


def leaves_mapped(dfn: Dfn, entry: IotlbEntry, promised: Iterable[Promise]) -> bool:
    """Whether the last promised change of a page maps the frame of an entry, with the entry's permissions.

    The page then permits an access through the entry, however late it is.
    """
    updates = [promise.update for promise in promised if promise.update is not None]
    last = max(updates, key=lambda update: update.step, default=None)
    if last is None or not last.new.is_present or last.new.frame(dfn) != entry.frame(dfn):
        return False
    return last.new.read >= entry.translation.read and last.new.write >= entry.translation.write


def is_broken(unit: Unit, tables: Tables, dfn: Dfn, entry: IotlbEntry, promise: Promise) -> bool:
    """Whether an access through an entry breaks a promise: its walk read a word that the promise says is replaced.

    A promise about a page permits the leaf that the call has left, and does not say which domain has the device. A
    promise that a frame is free covers the device's own entry too.
    """
    if promise.frame is not None:
        return is_replaced(unit, entry.reads, promise.changed, is_seen=False)
    kept = kept_leaf(unit, tables, dfn, promise.changed, promise.update)
    if is_harmless(entry.translation, dfn, kept, promise.update):
        return False
    return is_replaced(unit, table_reads(unit, entry), promise.changed, is_seen=promise.update is None)


def is_replaced(unit: Unit, reads: Iterable[TableRead], changed: int, *, is_seen: bool) -> bool:
    """Whether one of the words that a walk read had been replaced at or before a step.

    Args:
        is_seen: count a replacement only if a walker could see it at that step.
    """
    newer = (one for read in reads for one in unit.ledger.newer(read.address, read.level, read.step))
    return any((version.visible if is_seen else version.stored) <= changed for version in newer)
