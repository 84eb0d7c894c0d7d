"""*assigned*: no unit still uses the old tables of a device that was given to a domain, or taken away.

After an attach, a detach or a re-assignment that succeeds, no unit may translate for the device by the tables of a
domain that it has left and not joined again: neither through a cached context entry nor through an IOTLB entry.
Quarantine is a domain like any other. A unit that caches non-present context entries may not refuse a request because
of a replaced one. And no unit may let the device's requests through untranslated, to all memory.

Where entries are found by the domain's tag, those that were cached before a domain lost its last device are found
again by the next one. So when a device joins a domain, all that was promised of the domain's pages must hold for it.
And where a tag is given to another domain, nothing may be cached under it any more that leads to a frame which that
domain may not use.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf

import attrs

from emu.checks.details import Act, Revived
from emu.checks.findings import Finding, NotIsolated, StaleAssignment
from emu.checks.isolation import breach, may_use
from emu.checks.promises import Promise, device_reads, is_harmless, kept_leaf, promise_space, reads_of
from emu.devices.device import Device
from emu.engine import Access, Kind, Trace
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import READ_WRITE, MapFlags
from emu.hypervisor.pages import OWNERS, Pages
from emu.iommus.iotlb import DFN_MAX
from emu.iommus.paths import Tables
from emu.iommus.unit import Unit
from emu.units import Dfn, Mfn


@attrs.define(eq=False)
class AssignmentChecks:
    """Judges a device when its domain changes.

    Attributes:
        domains: returns all domains of the machine.
        promised: the promises about each page, by (domain, dfn).
        pages: the frames with their owners.
    """

    findings: list[Finding]
    domains: Callable[[], Iterable[Domain]]
    promised: Mapping[tuple[int, Dfn], Sequence[Promise]]
    pages: Pages
    trace: Trace

    def reads(self, device: Device) -> Iterable[Access]:
        """Return the reads of `handed_over`: the device's own entries, and the invalidations of their tags."""
        unit = device.unit
        yield from reads_of(unit.device_reads(device.source_id))
        for tag in dict.fromkeys(tables.tag for tables in unit.tables_ever(device.source_id)):
            yield unit.ledger.access(tag, 0, DFN_MAX, Kind.READ)
        if unit.iotlb.is_by_tag:
            yield from device_reads([unit])
            yield Access(promise_space(unit), 0, DFN_MAX, Kind.READ)
            for domain in self.domains():
                for dfn, _ in self.promises_of(domain):
                    for tables in tables_of(unit, domain):
                        yield from reads_of(unit.ledger.objects_read(tables, dfn, inf))
            for domain, tables in self.tables_of_others(device):
                for dfn in domain.known_dfns:
                    yield from reads_of(unit.ledger.objects_read(tables, dfn, inf))
                    for path in unit.ledger.paths(tables, dfn):
                        yield Access.to(OWNERS, path.translation.frame(dfn) or Mfn(0), Kind.READ)

    def handed_over(self, device: Device, step: int) -> None:
        """Judge a device at the step at which it has changed its domain."""
        self.findings.extend(self.stale(device, step))
        if device.unit.iotlb.is_by_tag:
            joined = (domain for domain in self.domains() if domain.number == device.assigned_to)
            self.findings.extend(found for domain in joined for found in self.revived(device, domain, step))
            self.findings.extend(self.inherited(device, step))

    def promises_of(self, domain: Domain) -> Iterator[tuple[Dfn, Promise]]:
        """Yield the promises about a domain's pages."""
        return ((dfn, one) for (number, dfn), made in self.promised.items() if number == domain.number for one in made)

    def revived(self, device: Device, domain: Domain, step: int) -> Iterator[StaleAssignment]:
        """Yield the finding of the first promise that does not hold for a device that is the only one of its domain."""
        unit = device.unit
        others = (source for source in unit.sources if source != device.source_id)
        in_use = {tables.tag for source in others for tables in unit.tables_ever(source) if tables.until == inf}
        for tables in tables_of(unit, domain):
            for dfn, promise in self.promises_of(domain) if tables.tag not in in_use else ():
                kept = kept_leaf(unit, tables, dfn, promise.changed, promise.update)
                for path in unit.ledger.old_paths(tables, dfn, promise.changed):
                    if not is_harmless(path.translation, dfn, kept, promise.update):
                        made = Revived(dfn, promise.agent, promise.call, promise.step)
                        yield StaleAssignment(step, device.bdf, domain.number, None, unit.name, revived=made)
                        return

    def tables_of_others(self, device: Device) -> Iterator[tuple[Domain, Tables]]:
        """Yield each domain and its tables of which a device may find what is cached, though its own are another's.

        No device's entry need lead to these tables any more: what was cached before is found by the tag alone.
        """
        unit = device.unit
        now = next((tables for tables in unit.tables_ever(device.source_id) if tables.until == inf), None)
        for tables in dict.fromkeys(unit.tables_found(device.source_id)) if now is not None and now.levels else ():
            if now is not None and tables.tag == now.tag and tables.root != now.root:
                for domain in self.domains():
                    if tables.root in domain.roots and now.root not in domain.roots:
                        yield domain, tables

    def inherited(self, device: Device, step: int) -> Iterator[NotIsolated]:
        """Yield the finding of the first frame of another domain that a device finds cached under its domain's tag."""
        joined = next((domain for domain in self.domains() if domain.number == device.assigned_to), None)
        agent = self.trace.agent_of(step).name
        for other, tables in self.tables_of_others(device) if joined is not None else ():
            for dfn in other.known_dfns:
                for path in device.unit.ledger.all_paths(tables, dfn):
                    found, frame = path.translation, path.translation.frame(dfn)
                    flags = READ_WRITE if found.write else MapFlags.READABLE
                    page = None if frame is None else self.pages.find(frame)
                    if page is not None and not may_use(page, joined, flags):
                        yield breach(page, joined, dfn, device.unit.name, agent, Act.ATTACH, step)
                        return

    def stale(self, device: Device, step: int) -> Iterator[StaleAssignment]:
        """Yield a finding for each left domain whose tables may still translate for the device; and a stale refusal."""
        unit, bdf, source_id = device.unit, device.bdf, device.source_id
        left = {number for number in device.assigned_before if number != device.assigned_to}
        roots = {root: domain.number for domain in self.domains() if domain.number in left for root in domain.roots}
        usable = (tables for tables in unit.tables_ever(source_id) if tables.until == inf and tables.root in roots)
        for number in dict.fromkeys(roots[tables.root] for tables in usable):
            yield StaleAssignment(step, bdf, device.assigned_to, number, unit.name)
        if device.assigned_to is not None and unit.may_refuse(source_id):
            yield StaleAssignment(step, bdf, device.assigned_to, None, unit.name)
        if unit.lets_through(source_id):
            yield StaleAssignment(step, bdf, device.assigned_to, None, unit.name, is_untranslated=True)


def tables_of(unit: Unit, domain: Domain) -> list[Tables]:
    """Return the tables of a domain that a unit may use now, or has used, with their tags."""
    return [tables for root in domain.roots for tables in unit.tables_at(root)]
