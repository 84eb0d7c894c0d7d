"""What devices really use: evidence for findings, and the emulator's check of itself."""

from collections.abc import Callable, Iterable

import attrs

from emu.checks.findings import Finding, Foreign, Illegal, Stale, Use
from emu.checks.promises import promise_space
from emu.engine import Access, Kind
from emu.hypervisor.domain import Domain
from emu.iommus.iotlb import IotlbEntry
from emu.iommus.requests import CONTEXT_LEVEL, Request
from emu.iommus.vtd.unit import VtdUnit
from emu.units import Maddr, address_frame, frame_address


@attrs.define(eq=False)
class UsageWatch:
    """Is told of every access that a device makes.

    A use of an old path that a promise forbids turns *possible* evidence into *observed*. A use of what the ledger
    does not allow is a bug of emu; this self-check is the one that reads the ledger without declaring it, for its
    answer must not depend on the schedule. A use on behalf of a domain that has lost the device is a finding.

    Attributes:
        domains: returns all domains of the machine.
        names: of the devices, by source-id.
    """

    findings: list[Finding]
    domains: Callable[[], Iterable[Domain]]
    names: dict[int, str] = attrs.field(factory=dict)

    def reads(self, unit: VtdUnit, request: Request) -> Iterable[Access]:
        """Return the promises about the page."""
        return (Access.to(promise_space(unit), request.dfn, Kind.READ),)

    def committed(self, unit: VtdUnit, request: Request, entry: IotlbEntry, step: int) -> None:
        """Learn that an access was made through an entry."""
        device = self.names[request.source_id]
        for index, finding in enumerate(self.findings):
            if isinstance(finding, Stale) and finding.use is None and takes(unit, request, entry, finding):
                self.findings[index] = attrs.evolve(finding, use=Use(device, step))
        tables_of_tag = (tables for tables in unit.tables_ever(request.source_id) if tables.tag == entry.tag)
        legal = (unit.ledger.legal(tables, request.dfn) for tables in tables_of_tag)
        if not any(entry.translation in translations for translations in legal):
            leaf = entry.translation.leaf
            self.findings.append(Illegal(device, step, unit.name, request.dfn, leaf))
        if request.programmed_by is not None and permits(entry, request):
            domain = next(one.number for one in self.domains() if one.pgd == root_of(entry))
            if domain != request.programmed_by:
                frame = entry.frame(request.dfn)
                foreign = Foreign(device, step, unit.name, request.dfn, frame, request.programmed_by, domain)
                self.findings.append(foreign)


def permits(entry: IotlbEntry, request: Request) -> bool:
    """Whether an entry lets a request through."""
    return entry.translation.write if request.is_write else entry.translation.read


def root_of(entry: IotlbEntry) -> Maddr:
    """Return the table of the highest level by which an entry was found."""
    first = next(read for read in entry.reads if read.level != CONTEXT_LEVEL)
    return frame_address(address_frame(Maddr(first.address)))


def takes(unit: VtdUnit, request: Request, entry: IotlbEntry, finding: Stale) -> bool:
    """Whether an access went by an old path to what a finding is about: it read a word before that was replaced."""
    used = (unit.name, request.dfn, entry.tag, entry.translation)
    if used != (finding.unit, finding.dfn, finding.tag, finding.path.translation):
        return False
    if finding.promise == "released":
        return True
    return any(
        read.step < version.stored <= finding.changed
        for read in entry.reads
        for version in unit.memory.history(read.address)
    )
