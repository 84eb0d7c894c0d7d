"""What devices really use: evidence for findings, and the emulator's check of itself."""

from collections.abc import Iterable

import attrs

from emu.checks.findings import Finding, Illegal, Stale, Use
from emu.checks.promises import promise_space
from emu.engine import Access, Kind
from emu.iommus.iotlb import IotlbEntry
from emu.iommus.requests import Request
from emu.iommus.vtd.unit import VtdUnit


@attrs.define(eq=False)
class UsageWatch:
    """Is told of every access that a device makes.

    A use of an old path that a promise forbids turns *possible* evidence into *observed*. A use of what the ledger
    does not allow is a bug of emu; this self-check is the one that reads the ledger without declaring it, for its
    answer must not depend on the schedule.
    """

    findings: list[Finding]
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
        tables_of_tag = unit.tables_ever(request.source_id, entry.tag)
        legal = (unit.ledger.legal(tables, request.dfn) for tables in tables_of_tag)
        if not any(entry.translation in translations for translations in legal):
            leaf = entry.translation.leaf
            self.findings.append(Illegal(device, step, unit.name, request.dfn, leaf))


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
