"""*break before make*: an entry does not take the place of another one that a walker may still use.

A walker that meets two entries for one page may use either, or a mixture, and a page whose size changes may be cached
in both sizes (DDI 0487, D8.16; VT-d 6.2.4.1). So an entry is cleared, what is cached of it dropped, and only then is
the new one stored. Entries that differ in their permissions alone need no break.

CPUs that translate by the same tables are always judged: between an entry and one that takes its place their TLBs must
have been flushed. Units are judged on request, by the ledger. Xen does not break for SMMUs: it flushes the CPUs' TLBs,
stores the new entry, and then flushes the SMMUs. Between the two both translations are legal there.
"""

from collections.abc import Iterable, Sequence
from math import inf

import attrs

from emu.checks.findings import Finding, NoBreak
from emu.checks.promises import device_reads, reads_of, tables_of_domain
from emu.cpus import Cpu
from emu.engine import Access, Kind
from emu.hypervisor.charging import pages_mapped
from emu.hypervisor.domain import Domain
from emu.hypervisor.places import Half, Place, Stored
from emu.iommus.formats import Entry
from emu.iommus.unit import Unit
from emu.memory import Memory


@attrs.define(eq=False)
class BreakJudge:
    """Judges entries that take the place of others, before memory changes: what a new one leads to does not count.

    Attributes:
        units: the units of the machine.
        judges_units: entries that a unit may still use count, too.
    """

    units: Sequence[Unit]
    findings: list[Finding]
    memory: Memory
    judges_units: bool = False

    def word_reads(self, domain: Domain, half: Half | None, place: Place) -> Iterable[Access]:
        """Return the reads of `word_stored`."""
        if domain.cpu_tlb is not None:
            yield domain.cpu_tlb.access(Kind.READ)
        if self.judges_units:
            yield from device_reads(self.units)
            for unit, tables in tables_of_domain(self.units, domain):
                for dfn in pages_mapped(domain, place):
                    yield from reads_of(unit.ledger.objects_read(tables, dfn, inf))

    def word_stored(self, cpu: Cpu, domain: Domain, place: Place, stored: Stored) -> None:
        """Judge a word of a domain's tables at the step at which a CPU stores it."""
        new = domain.format.decode(stored.word, place.level)
        if new is None:
            return
        if domain.cpu_tlb is not None:
            replaced = self.known_to_cpus(domain, place, stored, new, domain.cpu_tlb.flushed)
            if replaced is not None:
                self.note(cpu, domain, place, stored, None, replaced)
        if self.judges_units:
            for name, replaced in self.known_to_units(domain, place, stored, new).items():
                self.note(cpu, domain, place, stored, name, replaced)

    def known_to_cpus(self, domain: Domain, place: Place, stored: Stored, new: Entry, flushed: int) -> int | None:
        """Return a value of a word that CPUs may still use, and in whose place another one must not stand; or None."""
        replaced_at: float = inf
        for version in reversed(self.memory.history(stored.address)):
            if replaced_at <= flushed:
                break
            if needs_break(domain.format.decode(version.value, place.level), new):
                return version.value
            replaced_at = version.stored
        return None

    def known_to_units(self, domain: Domain, place: Place, stored: Stored, new: Entry) -> dict[str, int]:
        """Return such a value for each unit that may still use one, by the name of the unit.

        A table entry that leads to no page which was ever mapped does no harm.
        """
        found: dict[str, int] = {}
        for unit, tables in tables_of_domain(self.units, domain):
            paths = (path for dfn in pages_mapped(domain, place) for path in unit.ledger.all_paths(tables, dfn))
            used = (one.version.value for path in paths for one in path.entries if one.address == stored.address)
            replaced = (value for value in used if needs_break(domain.format.decode(value, place.level), new))
            first = next(replaced, None)
            if first is not None:
                found.setdefault(unit.name, first)
        return found

    def note(self, cpu: Cpu, domain: Domain, place: Place, stored: Stored, unit: str | None, replaced: int) -> None:
        """Keep the finding that an entry takes the place of another one too early, one for both halves of it."""
        words = (replaced, stored.word)
        found = NoBreak(cpu.name, stored.step, domain.number, place.first, unit, stored.address, place.level, words)
        for index, one in enumerate(self.findings):
            if isinstance(one, NoBreak) and is_other_half(one, found, stored):
                self.findings[index] = attrs.evolve(found, words=(one.words[0], stored.word))
                return
        self.findings.append(found)


def is_other_half(one: NoBreak, found: NoBreak, stored: Stored) -> bool:
    """Whether a finding is about what stood there between the two stores of the new entry."""
    is_same = (one.agent, one.unit, one.address) == (found.agent, found.unit, found.address)
    return stored.half is not None and is_same and one.words[1] == stored.before


def needs_break(old: Entry | None, new: Entry) -> bool:
    """Whether an entry may not take the place of another one without a break."""
    return old is not None and (old.address, old.next_level, old.order) != (new.address, new.next_level, new.order)
