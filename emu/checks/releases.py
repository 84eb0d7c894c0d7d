"""A frame that is freed or gets a new owner is out of everyone else's reach.

*released*: no translation to the frame is legal for anyone but its owner, at any unit. A domain with `maps_all` does
not count. It does not matter whether a call has promised that the translation is gone: the caller must not free the
frame before. If the frame was a page table, no path reads it, and from then on no CPU stores an entry there.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf

import attrs

from emu.checks.details import Act
from emu.checks.findings import BeyondRange, Finding, FreedTable, NotIsolated, Overrun, Owed, Released
from emu.checks.promises import Promise, device_reads, promise_space, reads_of, tables_of_domain
from emu.cpus import Cpu
from emu.engine import Access, Kind
from emu.hypervisor.domain import EVER_MAPPED, Domain
from emu.hypervisor.page import Page
from emu.hypervisor.records import CallRecord
from emu.iommus.paths import Path
from emu.iommus.unit import Unit
from emu.units import Dfn, Mfn, address_frame


@attrs.define(eq=False)
class ReleaseJudge:
    """Judges frames, and keeps its findings.

    Attributes:
        units: the units of the machine.
        domains: returns all domains of the machine.
        debts: the calls that were deferred and whose hypercall has not ended.
        promised: the promises about each page; each release adds one for each page at which its frame was mapped.
        freed: the CPU that freed each frame last, and the step.
        freed_tables: the same, for frames that were page tables when they were freed.
    """

    units: Sequence[Unit]
    findings: list[Finding]
    domains: Callable[[], Iterable[Domain]]
    debts: list[CallRecord]
    promised: dict[tuple[int, Dfn], list[Promise]]
    freed: dict[Mfn, tuple[str, int]] = attrs.field(factory=dict)
    freed_tables: dict[Mfn, tuple[str, int]] = attrs.field(factory=dict)

    def reads_of_page(self, page: Page) -> Iterable[Access]:
        """Return the reads of `owner_changes`: where the frame was ever mapped, and all that its paths depend on."""
        yield Access.to(EVER_MAPPED, page.mfn, Kind.READ)
        yield from device_reads(self.units)
        for domain, dfn in self.pages_of(page):
            for unit, tables in tables_of_domain(self.units, domain):
                yield Access.to(promise_space(unit), dfn, Kind.WRITE)
                yield from reads_of(unit.ledger.objects_read(tables, dfn, inf))

    def pages_of(self, page: Page) -> list[tuple[Domain, Dfn]]:
        """Return the pages at which a frame was ever mapped, and a page that it translated if it was a table."""
        domains = (domain for domain in self.domains() if not domain.maps_all)
        pages = [(domain, dfn) for domain in domains for dfn in domain.ever_mapped.get(page.mfn, ())]
        return pages if page.table is None else [*pages, page.table]

    def owner_changes(self, page: Page, cpu: Cpu, call: str, step: int) -> None:
        """Judge a frame at the step at which it was freed or given to its present owner."""
        if page.owner is None:
            self.freed[page.mfn] = cpu.name, step
            if page.table is not None:
                self.freed_tables[page.mfn] = cpu.name, step
        for domain, dfn in self.pages_of(page):
            if domain is not page.owner:
                promise = Promise(step, cpu.name, call, step, frame=page.mfn)
                self.promised.setdefault((domain.number, dfn), []).append(promise)
                for released in self.released(page, domain, dfn, cpu, call, step):
                    self.drop_withdrawal(released)
                    self.findings.append(released)  # one by one: `is_known` compares the next with it

    def released(self, page: Page, domain: Domain, dfn: Dfn, cpu: Cpu, call: str, step: int) -> Iterator[Released]:
        """Yield, for each unit at which a page of a domain may still lead to a frame, the finding with a path."""
        for unit, tables in tables_of_domain(self.units, domain):
            path = next((path for path in unit.ledger.all_paths(tables, dfn) if leads_to(path, dfn, page.mfn)), None)
            if path is None or self.is_known(domain, dfn, unit, page):
                continue
            found = Released(
                agent=cpu.name,
                call=call,
                step=step,
                domain=domain.number,
                dfn=dfn,
                unit=unit.name,
                tag=tables.tag,
                root=tables.root,
                path=path,
                replaced=path.overwritten_by(step),
                changed=step,
                update=None,
                table=page.mfn if path.translation.frame(dfn) != page.mfn else None,
                generation=page.generation,
            )
            yield self.with_debt_of(found)

    def entry_stored(self, page: Page, cpu: Cpu, domain: Domain, dfn: Dfn, step: int) -> None:
        """Note a store to a frame that is no table of its domain: one freed, or reached through a freed table."""
        freed = self.freed_tables.get(page.mfn)
        self.findings.append(FreedTable(cpu.name, step, domain.number, dfn, page.mfn, freed))

    def page_changed(self, cpu: Cpu, domain: Domain, dfn: Dfn, step: int) -> None:
        """Note that a store has changed the mapping of a page, while no call was open on the CPU."""
        self.findings.append(BeyondRange(cpu.name, None, step, domain.number, dfn, 1, dfn, domain.number))

    def overrun(self, cpu: Cpu, array: str, count: int) -> None:
        """Note a store past the end of an array."""
        self.findings.append(Overrun(cpu.name, cpu.trace.step, array, count))

    def with_debt_of(self, released: Released) -> Released:
        """Return a release with the debt that it breaks. A debt that was reported as owed is reported no more.

        Of several debts it is the debt of the call that made the change.
        """
        debts = [debt for debt in self.debts if debt.domain.number == released.domain and released.dfn in debt.updates]
        known = [one for one in self.findings if isinstance(one, Owed)]
        for owed in known:
            if (owed.page, owed.change) == (released.page, released.change):
                self.findings.remove(owed)
                debts.append(owed.debt)

        def preference(debt: CallRecord) -> tuple[bool, str]:
            return debt.updates[released.dfn].step != released.change, debt.cpu.name

        return attrs.evolve(released, debt=min(debts, key=preference, default=None))

    def drop_withdrawal(self, released: Released) -> None:
        """Drop the finding of a withdrawn grant of the same page: the same flush is missing."""
        for one in list(self.findings):
            if isinstance(one, NotIsolated) and one.act is Act.WITHDRAW and one.page == released.page:
                self.findings.remove(one)

    def is_known(self, domain: Domain, dfn: Dfn, unit: Unit, page: Page) -> bool:
        """Whether the same was reported when the frame was freed that is given away now."""
        return any(
            isinstance(finding, Released)
            and finding.page == (domain.number, dfn, unit.name, page.mfn)
            and finding.generation + 1 >= page.generation
            for finding in self.findings
        )


def leads_to(path: Path, dfn: Dfn, mfn: Mfn) -> bool:
    """Whether a path gives a frame for a dfn, or reads a table in it."""
    return path.translation.frame(dfn) == mfn or any(address_frame(entry.address) == mfn for entry in path.entries)
