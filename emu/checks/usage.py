"""What devices really use: evidence for findings, and the emulator's check of itself."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import attrs

from emu.checks.findings import Finding, Foreign, Illegal, Late, OldPath, Released, Use
from emu.checks.promises import Promise, kept_leaf, promise_space
from emu.engine import Access, Kind
from emu.hypervisor.domain import Domain
from emu.iommus.iotlb import IotlbEntry
from emu.iommus.paths import Tables
from emu.iommus.requests import Request, TableRead
from emu.iommus.unit import Unit
from emu.units import Dfn, Maddr, address_frame, frame_address


@attrs.define(eq=False)
class UsageWatch:
    """Is told of every access that a device makes.

    A use of an old path that a promise forbids turns *possible* evidence into *observed*. A use of what the ledger
    does not allow is a bug of emu; this self-check is the one that reads the ledger without declaring it, for its
    answer must not depend on the schedule. A use on behalf of a domain that has lost the device is a finding.

    Attributes:
        domains: returns all domains of the machine.
        promised: for each domain's page the promises made of it.
        names: of the devices, by source-id.
    """

    findings: list[Finding]
    domains: Callable[[], Iterable[Domain]]
    promised: Mapping[tuple[int, Dfn], Sequence[Promise]]
    names: dict[int, str] = attrs.field(factory=dict)

    def reads(self, unit: Unit, request: Request) -> Iterable[Access]:
        """Return the promises about the page."""
        return (Access.to(promise_space(unit), request.dfn, Kind.READ),)

    def committed(self, unit: Unit, request: Request, entry: IotlbEntry, step: int) -> None:
        """Learn that an access was made through an entry."""
        device = self.names[request.source_id]
        for index, finding in enumerate(self.findings):
            if isinstance(finding, OldPath) and finding.use is None and takes(unit, request, entry, finding):
                self.findings[index] = attrs.evolve(finding, use=Use(device, step))
        if request.is_left:
            self.findings.extend(self.late(unit, request, entry, step))
        elif not self.is_legal(unit, request, entry):
            self.findings.append(Illegal(device, step, unit.name, request.dfn, entry.translation.leaf))
        if request.programmed_by is not None and entry.permits(is_write=request.is_write):
            domain = self.domain_of(unit, entry).number
            if domain != request.programmed_by:
                frame = entry.frame(request.dfn)
                foreign = Foreign(device, step, unit.name, request.dfn, frame, request.programmed_by, domain)
                self.findings.append(foreign)

    def domain_of(self, unit: Unit, entry: IotlbEntry) -> Domain:
        """Return the domain by whose tables an entry was found."""
        return next(domain for domain in self.domains() if domain.pgd == root_of(unit, entry))

    def is_legal(self, unit: Unit, request: Request, entry: IotlbEntry) -> bool:
        """Whether the ledger allows what an access has used."""
        tables_of_tag = (tables for tables in unit.tables_ever(request.source_id) if tables.tag == entry.tag)
        return any(entry.translation in unit.ledger.legal(tables, request.dfn) for tables in tables_of_tag)

    def late(self, unit: Unit, request: Request, entry: IotlbEntry, step: int) -> Iterator[Late]:
        """Yield what an access breaks that an invalidation has left in flight: one of the promises made before it.

        It is the first of the agent whose name comes first: the order between those of two may be of no account.
        """
        domain, device, frame = self.domain_of(unit, entry), self.names[request.source_id], entry.frame(request.dfn)
        tables = Tables(entry.tag, domain.pgd, domain.levels)
        broken = [
            promise
            for promise in self.promised.get((domain.number, request.dfn), ())
            if promise.frame in {None, frame} and is_broken(unit, tables, request.dfn, entry, promise)
        ]
        if broken and entry.permits(is_write=request.is_write):
            first = min(broken, key=lambda promise: (promise.agent, promise.step))
            made = (first.agent, first.call, first.step)
            yield Late(device, step, unit.name, domain.number, request.dfn, frame, request.is_write, *made)


def root_of(unit: Unit, entry: IotlbEntry) -> Maddr:
    """Return the table of the highest level by which an entry was found."""
    return frame_address(address_frame(Maddr(table_reads(unit, entry)[0].address)))


def table_reads(unit: Unit, entry: IotlbEntry) -> list[TableRead]:
    """Return what the walk read of page tables, the highest first."""
    return [read for read in entry.reads if read.level != unit.format.device_level]


def takes(unit: Unit, request: Request, entry: IotlbEntry, finding: OldPath) -> bool:
    """Whether an access went by an old path to what a finding is about: it read a word before that was replaced."""
    used = (unit.name, request.dfn, entry.tag, entry.translation)
    if used != (finding.unit, finding.dfn, finding.tag, finding.path.translation):
        return False
    if isinstance(finding, Released):
        return True
    return is_replaced(unit, table_reads(unit, entry), finding.changed, is_seen=finding.update is None)


def is_broken(unit: Unit, tables: Tables, dfn: Dfn, entry: IotlbEntry, promise: Promise) -> bool:
    """Whether an access through an entry breaks a promise: it had read a word that the promise says to be gone.

    A promise about a page permits the leaf that the call has left, and says nothing about who has the device; one that
    a frame is free does.
    """
    if promise.frame is not None:
        return is_replaced(unit, entry.reads, promise.changed, is_seen=False)
    if kept_leaf(unit, tables, dfn, promise.changed, promise.update) == entry.translation.leaf:
        return False
    return is_replaced(unit, table_reads(unit, entry), promise.changed, is_seen=promise.update is None)


def is_replaced(unit: Unit, reads: Iterable[TableRead], changed: int, *, is_seen: bool) -> bool:
    """Whether one of the words that were read had been replaced at or before a step.

    Args:
        is_seen: it counts only if a walker could see it then.
    """
    newer = (one for read in reads for one in unit.ledger.newer(read.address, read.level, read.step))
    return any((version.visible if is_seen else version.stored) <= changed for version in newer)
