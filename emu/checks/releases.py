"""What must hold when a frame is freed or gets a new owner.

*released*: no translation to it is legal for anyone but its owner, at any unit. Whether a call has promised that the
translation is gone does not matter: a caller that frees the frame first has nobody to blame but itself.
"""

from collections.abc import Callable, Iterable, Iterator
from math import inf

import attrs

from emu.checks.findings import Finding, Stale, frame_of
from emu.checks.promises import promise_space, translators
from emu.cpus import Cpu
from emu.engine import Access, Kind
from emu.hypervisor.domain import INSTALLED, Domain
from emu.hypervisor.pages import Page
from emu.hypervisor.records import CallRecord
from emu.iommus.ledger import Tables
from emu.iommus.vtd.unit import VtdUnit
from emu.units import Dfn, Mfn


@attrs.define(eq=False)
class ReleaseJudge:
    """Judges frames, and keeps what it found.

    Attributes:
        domains: returns all domains of the machine.
        debts: the calls that were deferred and whose hypercall has not ended.
    """

    findings: list[Finding]
    domains: Callable[[], Iterable[Domain]]
    debts: list[CallRecord] = attrs.field(factory=list)

    def reads_of_page(self, page: Page) -> Iterable[Access]:
        """Return where the frame was ever entered, and what decides whether a path leads there."""
        yield Access.to(INSTALLED, page.mfn, Kind.READ)
        for unit, tables, _, dfn in self.entered(page.mfn):
            yield Access.to(promise_space(unit), dfn, Kind.WRITE)
            for space, number in unit.ledger.objects_read(tables, dfn, inf):
                yield Access.to(space, number, Kind.READ)

    def entered(self, mfn: Mfn) -> Iterator[tuple[VtdUnit, Tables, Domain, Dfn]]:
        """Yield where a frame was ever entered: unit, tables, domain and dfn."""
        for domain in self.domains():
            for dfn in domain.installed.get(mfn, ()):
                for unit, tables in translators(domain):
                    yield unit, tables, domain, dfn

    def owner_changes(self, page: Page, cpu: Cpu, call: str, step: int) -> None:
        """Judge a frame at the step at which it was freed or given to its present owner."""
        for unit, tables, domain, dfn in self.entered(page.mfn):
            if domain is page.owner:
                continue
            path = next((path for path in unit.ledger.all_paths(tables, dfn) if frame_of(path, dfn) == page.mfn), None)
            if path is not None and not self.is_known(domain, dfn, unit, page):
                self.findings.append(
                    Stale(
                        promise="released",
                        agent=cpu.name,
                        call=call,
                        step=step,
                        domain=domain.number,
                        dfn=dfn,
                        unit=unit.name,
                        tag=tables.tag,
                        path=path,
                        replaced=path.overwritten_by(step),
                        changed=step,
                        update=None,
                        debt=next((debt for debt in self.debts if debt.domain is domain and dfn in debt.updates), None),
                        generation=page.generation,
                    )
                )

    def is_known(self, domain: Domain, dfn: Dfn, unit: VtdUnit, page: Page) -> bool:
        """Whether it was found already when the frame was freed, that it is now given away."""
        return any(
            isinstance(finding, Stale)
            and finding.promise == "released"
            and (finding.domain, finding.dfn, finding.unit) == (domain.number, dfn, unit.name)
            and finding.frame == page.mfn
            and finding.generation + 1 >= page.generation
            for finding in self.findings
        )
