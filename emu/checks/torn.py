"""*torn*: no walk finds in an entry what no CPU meant to store there.

A CPU that replaces a present entry in two stores of 32 bits shows walks a third entry between the two: one half of the
old, one half of the new. It is a finding if that entry leads to a frame to which neither leads, or permits an access
there that neither permits. A flush removes it from the caches, but only after the call's second store.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf

import attrs

from emu.checks.details import Use
from emu.checks.findings import Finding, Torn
from emu.checks.promises import device_reads, tables_of_domain
from emu.cpus import Cpu
from emu.engine import Access
from emu.hypervisor.domain import Domain
from emu.hypervisor.places import Half, Place, Stored
from emu.iommus.formats import Entry
from emu.iommus.iotlb import IotlbEntry
from emu.iommus.requests import Request
from emu.iommus.unit import Unit
from emu.units import Maddr, address_frame


@attrs.define(eq=False)
class TornJudge:
    """Judges entries that are stored in halves, and watches devices use them.

    Attributes:
        units: the units of the machine.
        names: the names of the devices, by source-id.
        halves: the words of which a CPU has stored one half, with the CPU and that store.
        uses: the accesses through an entry whose other half was still to be stored: by unit, word and its value.
    """

    units: Sequence[Unit]
    findings: list[Finding]
    names: Mapping[int, str]
    halves: dict[Maddr, tuple[str, Stored]] = attrs.field(factory=dict)
    uses: dict[tuple[str, Maddr, int], Use] = attrs.field(factory=dict)

    def word_reads(self, domain: Domain, half: Half | None, place: Place) -> Iterable[Access]:
        """Return the reads of `word_stored`: for a half, the entries of every device."""
        return () if half is None else device_reads(self.units)

    def word_stored(self, cpu: Cpu, domain: Domain, place: Place, stored: Stored) -> None:
        """Judge a word of a domain's tables at the step at which a CPU stores it, or the second of its halves."""
        before = self.halves.pop(stored.address, None)
        if stored.half is None:
            return
        if before is None or before[0] != cpu.name or before[1].half is stored.half:
            self.halves[stored.address] = cpu.name, stored
            return
        first = before[1]
        old, composed, new = (
            domain.format.decode(word, place.level) for word in (first.before, first.word, stored.word)
        )
        if composed is None or is_part_of(composed, old) or is_part_of(composed, new):
            return
        found = tables_of_domain(self.units, domain)
        for unit in dict.fromkeys(unit.name for unit, tables in found if tables.until == inf):
            use = self.uses.get((unit, stored.address, first.word))
            self.findings.append(
                Torn(
                    agent=cpu.name,
                    steps=(first.step, stored.step),
                    domain=domain.number,
                    dfn=place.first,
                    unit=unit,
                    address=stored.address,
                    words=(first.before, first.word, stored.word),
                    frame=address_frame(composed.address),
                    use=use,
                )
            )

    def reads(self, unit: Unit, request: Request, entry: IotlbEntry | None) -> Iterable[Access]:
        """Return nothing: whether a use comes before the finding or after it, the finding has it."""
        return ()

    def committed(self, unit: Unit, request: Request, entry: IotlbEntry, step: int) -> None:
        """Note an access through an entry of which a CPU has stored one half, or had when the walk read it."""
        use = Use(self.names[request.source_id], step)
        for read in entry.reads:
            address = Maddr(read.address)
            if address in self.halves:
                self.uses.setdefault((unit.name, address, entry.translation.leaf), use)
        for index, one in enumerate(self.findings):
            if isinstance(one, Torn) and one.use is None and uses_torn(unit, entry, one):
                self.findings[index] = attrs.evolve(one, use=use)

    def refused(self, unit: Unit, request: Request, step: int) -> None:
        """Do nothing: what leads nowhere does no harm."""


def uses_torn(unit: Unit, entry: IotlbEntry, finding: Torn) -> bool:
    """Whether an access went through the entry of a finding."""
    if unit.name != finding.unit or entry.translation.leaf != finding.words[1]:
        return False
    return any(read.address == finding.address for read in entry.reads)


def is_part_of(entry: Entry, whole: Entry | None) -> bool:
    """Whether an entry leads only where another leads, and permits nothing more."""
    if whole is None or (entry.address, entry.next_level, entry.order) != whole[:3]:
        return False
    return entry.read <= whole.read and entry.write <= whole.write
