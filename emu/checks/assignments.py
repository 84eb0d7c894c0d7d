"""*assigned*: no unit still uses the old tables of a device that was given to a domain, or taken away.

After an attach, a detach or a re-assignment that succeeds, no unit may translate for the device by the tables of a
domain that it has left and not joined again: neither through a cached context entry nor through an IOTLB entry.
Quarantine is a domain like any other. A unit that caches non-present context entries may not refuse a request because
of a replaced one. And no unit may let the device's requests through untranslated, to all memory.
"""

from collections.abc import Callable, Iterable, Iterator
from math import inf

import attrs

from emu.checks.findings import Finding, StaleAssignment
from emu.checks.promises import reads_of
from emu.devices.device import Device
from emu.engine import Access, Kind
from emu.hypervisor.domain import Domain
from emu.iommus.iotlb import DFN_MAX


@attrs.define(eq=False)
class AssignmentChecks:
    """Judges a device when its domain changes.

    Attributes:
        domains: returns all domains of the machine.
    """

    findings: list[Finding]
    domains: Callable[[], Iterable[Domain]]

    def reads(self, device: Device) -> Iterable[Access]:
        """Return the reads of `handed_over`: the device's own entries, and the invalidations of their tags."""
        unit = device.unit
        yield from reads_of(unit.device_reads(device.source_id))
        for tag in dict.fromkeys(tables.tag for tables in unit.tables_ever(device.source_id)):
            yield unit.ledger.access(tag, 0, DFN_MAX, Kind.READ)

    def handed_over(self, device: Device, step: int) -> None:
        """Judge a device at the step at which it has changed its domain."""
        self.findings.extend(self.stale(device, step))

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
