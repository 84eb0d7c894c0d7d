"""The domains by whose tables a frame may be reached.

*isolated*: a device reaches a frame only through tables of the frame's owner, or of a domain that the owner lets map
it, and never reaches a page table. This is judged when a leaf is stored, when a domain's grant is withdrawn, and when
an access is made. A stale path to a frame that its domain may still use does no harm here.

At the step that frees a frame or gives it an owner, *released* judges it: whether anyone but the owner reaches the
frame is the same question. A finding of the same step, or a release of the frame, is not reported once more as this.

Not judged: a frame that no domain owns, or DOMID_IO; and the frames that a domain with `maps_all` reaches.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf

import attrs

from emu.checks.details import Act, Use
from emu.checks.findings import Finding, NotIsolated, Released, Stuck
from emu.checks.promises import device_reads, reads_of, tables_of_domain
from emu.checks.usage import domain_of, table_reads
from emu.cpus import Cpu
from emu.engine import Access, Kind
from emu.engine.execution import ReadRecorder
from emu.hypervisor.domain import DOMID_IO, EVER_MAPPED, Domain
from emu.hypervisor.ops import MapFlags
from emu.hypervisor.page import Page
from emu.hypervisor.pages import OWNERS, Pages
from emu.iommus.iotlb import IotlbEntry
from emu.iommus.requests import Request
from emu.iommus.unit import Unit
from emu.units import Dfn, Maddr, Mfn, address_frame

NOTHING = MapFlags(0)


@attrs.define(eq=False)
class IsolationJudge:
    """Judges leaves stored and grants withdrawn by CPUs, and keeps its findings.

    Attributes:
        units: the units of the machine.
        recorder: records the frames whose owner was read.
    """

    units: Sequence[Unit]
    findings: list[Finding]
    recorder: ReadRecorder

    def leaf_reads(self, page: Page, domain: Domain, flags: MapFlags) -> Iterable[Access]:
        """Return the reads of `leaf_stored`: the owner, and if the domain may not map the frame, the device entries."""
        yield Access.to(OWNERS, page.mfn, Kind.READ)
        if not may_use(page, domain, flags):
            yield from device_reads(self.units)

    def leaf_stored(self, page: Page, cpu: Cpu, domain: Domain, dfn: Dfn, flags: MapFlags, step: int) -> None:
        """Judge a leaf at the step of its store, for the units that may then walk to it."""
        if self.permits(page, domain, flags) or self.is_reported(step):
            return
        for unit, tables in tables_of_domain(self.units, domain):
            if tables.until == inf:
                self.note(breach(page, domain, dfn, unit.name, cpu.name, Act.MAP, step))

    def withdrawal_reads(self, page: Page, domain: Domain) -> Iterable[Access]:
        """Return the reads of `withdrawn`: where the frame was ever mapped, and all that its paths depend on."""
        yield Access.to(EVER_MAPPED, page.mfn, Kind.READ)
        yield from device_reads(self.units)
        for unit, tables in tables_of_domain(self.units, domain):
            for dfn in domain.ever_mapped.get(page.mfn, ()):
                yield from reads_of(unit.ledger.objects_read(tables, dfn, inf))

    def withdrawn(self, page: Page, cpu: Cpu, domain: Domain, step: int) -> None:
        """Judge a frame at the step from which the domain may not map it any more."""
        if not self.permits(page, domain, MapFlags.READABLE):
            for unit, dfn in self.reached(page.mfn, domain):
                self.note(breach(page, domain, dfn, unit, cpu.name, Act.WITHDRAW, step))

    def reached(self, mfn: Mfn, domain: Domain) -> Iterator[tuple[str, Dfn]]:
        """Yield the unit and the page for each legal path of a domain to a frame."""
        for unit, tables in tables_of_domain(self.units, domain):
            for dfn in domain.ever_mapped.get(mfn, ()):
                for path in unit.ledger.all_paths(tables, dfn):
                    if path.translation.frame(dfn) == mfn:
                        yield unit.name, dfn

    def permits(self, page: Page, domain: Domain | None, flags: MapFlags) -> bool:
        """Whether a domain may use a frame as the flags say."""
        self.recorder.read(OWNERS, page.mfn)
        return may_use(page, domain, flags)

    def is_reported(self, step: int) -> bool:
        """Whether another check has found something at the present step."""
        return any(not isinstance(one, Stuck) and one.step == step for one in self.findings)

    def note(self, found: NotIsolated) -> None:
        """Keep a finding, once for each page and act. An access turns a possible finding into an observed one."""
        for index, one in enumerate(self.findings):
            if isinstance(one, NotIsolated) and one.page == found.page:
                if found.act is Act.ACCESS and one.use is None:
                    self.findings[index] = attrs.evolve(one, use=found.use)
                if found.act in {Act.ACCESS, one.act}:
                    return
        self.findings.append(found)


@attrs.define(eq=False)
class IsolationWatch:
    """Judges the accesses of devices.

    Attributes:
        domains: returns all domains of the machine.
        names: the names of the devices, by source-id.
    """

    judge: IsolationJudge
    pages: Pages
    domains: Callable[[], Iterable[Domain]]
    names: Mapping[int, str]

    def reads(self, unit: Unit, request: Request, entry: IotlbEntry | None) -> Iterable[Access]:
        """Return the read of the frame's owner."""
        if entry is not None and self.is_judged(request, entry):
            yield Access.to(OWNERS, entry.frame(request.dfn), Kind.READ)

    def committed(self, unit: Unit, request: Request, entry: IotlbEntry, step: int) -> None:
        """Judge an access at the step at which it was made."""
        if not self.is_judged(request, entry):
            return
        domain, page = domain_served(self.domains(), unit, request, entry), self.pages.find(entry.frame(request.dfn))
        wanted = MapFlags.WRITABLE if request.is_write else MapFlags.READABLE
        if self.judge.permits(page, domain, wanted) or self.judge.is_reported(step):
            return
        device = self.names[request.source_id]
        found = breach(page, domain, request.dfn, unit.name, device, Act.ACCESS, step)
        walked = frozenset(address_frame(Maddr(read.address)) for read in table_reads(unit, entry))
        if not any(is_consequence(found, walked, one) for one in self.judge.findings):
            self.judge.note(attrs.evolve(found, use=Use(device, step)))

    def refused(self, unit: Unit, request: Request, step: int) -> None:
        """Do nothing: no frame was reached."""

    def is_judged(self, request: Request, entry: IotlbEntry) -> bool:
        """Whether an access is permitted by its entry, and its frame has an owner or may get one."""
        return entry.permits(is_write=request.is_write) and self.pages.may_have_owner(entry.frame(request.dfn))


def domain_served(domains: Iterable[Domain], unit: Unit, request: Request, entry: IotlbEntry) -> Domain | None:
    """Return the domain for which an access was made; None if the request passed through untranslated.

    Where entries are found by tag, it is the domain whose tables the device's own entry names. What was found may have
    been cached for another one.
    """
    if request.tables is not None and request.tables.levels:
        return next((domain for domain in domains if request.tables.root in domain.roots), None)
    return domain_of(domains, unit, entry)


def may_use(page: Page, domain: Domain | None, flags: MapFlags) -> bool:
    """Whether a domain's devices may use a frame as the flags say; None: a device without tables of any domain.

    Use of a free frame is not judged here.
    """
    maps_all = domain is not None and domain.maps_all
    if maps_all or page.is_table:
        return maps_all
    if page.owner is None or page.owner is domain or page.owner.number == DOMID_IO:
        return True
    return domain is not None and not flags & ~page.grants.get(domain.number, NOTHING)


def breach(page: Page, domain: Domain | None, dfn: Dfn, unit: str, agent: str, act: Act, step: int) -> NotIsolated:
    """Return the finding that a domain's devices may reach a frame at a dfn through a unit."""
    return NotIsolated(
        agent=agent,
        act=act,
        step=step,
        domain=None if domain is None else domain.number,
        dfn=dfn,
        frame=page.mfn,
        unit=unit,
        owner=page.owner.number if page.owner else None,
        is_table=page.is_table,
        allowed=NOTHING if domain is None else page.grants.get(domain.number, NOTHING),
    )


def is_consequence(found: NotIsolated, walked: frozenset[Mfn], one: Finding) -> bool:
    """Whether a finding is the release that explains an access: of the frame, or of a table that its walk has read."""
    return isinstance(one, Released) and (one.page == found.page or (one.table is not None and one.table in walked))
