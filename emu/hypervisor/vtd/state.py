"""The state of the VT-d driver (Xen: vtd/iommu.h)."""

from collections.abc import Mapping

import attrs

from emu.cpus import Cpu, SpinLock
from emu.devices.device import Device
from emu.hypervisor.bitmaps import Bitmap
from emu.hypervisor.domain import Domain
from emu.hypervisor.faults import Faults
from emu.hypervisor.fixes import AS_OF_2018, Fix
from emu.hypervisor.vtd.domain_ids import DomainIds
from emu.iommus.vtd.unit import VtdUnit
from emu.units import WORD_BYTES, Maddr


@attrs.define(eq=False)
class VtdIommu:
    """The driver's state for one unit (Xen: vtd/iommu.h, struct vtd_iommu).

    Attributes:
        index: its bit in the domains' iommu_bitmap.
        lock: guards its context tables, and is held while a domain id is taken.
        register_lock: guards the tail of the invalidation queue.
        domids: the unit's domain id for each domain that uses it.
    """

    index: int
    unit: VtdUnit
    lock: SpinLock = attrs.field(init=False)
    register_lock: SpinLock = attrs.field(init=False)
    domids: DomainIds = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.lock = SpinLock(f"{self.unit.name}.lock")
        self.register_lock = SpinLock(f"{self.unit.name}.register_lock")
        self.domids = DomainIds(self.unit.name)


@attrs.define(eq=False)
class DriverState:
    """The units of the machine, and the driver's state for all of them together.

    Attributes:
        poll_slots: the address of the status words, one for each CPU (Xen: vtd/qinval.c, poll_slot).
        devices: the devices of the machine, by name.
        bitmaps: each domain's iommu_bitmap, by the number of the domain.
        fixes: the repairs that the driver's code has.
        faults: the faults that the strategy may inject.
        debug_build: an ASSERT of Xen that does not hold is a finding.
    """

    poll_slots: Maddr
    devices: Mapping[str, Device] = attrs.field(factory=dict)
    iommus: list[VtdIommu] = attrs.field(factory=list)
    bitmaps: dict[int, Bitmap] = attrs.field(factory=dict)
    fixes: set[Fix] = attrs.field(factory=lambda: set(AS_OF_2018))
    faults: Faults = attrs.field(factory=Faults)
    debug_build: bool = False

    @property
    def is_coherent(self) -> bool:
        """Whether the walks of every unit snoop the CPUs' caches."""
        return all(iommu.unit.settings.coherent for iommu in self.iommus)

    @property
    def snoop_control(self) -> bool:
        """Whether leaves carry SNP: every unit must support it (Xen: iommu.c, iommu_snoop)."""
        return all(iommu.unit.settings.snoop_control for iommu in self.iommus)

    def iommu_of(self, device: Device) -> VtdIommu:
        """Return the unit that a device stands behind (Xen: vtd/dmar.c, acpi_find_matched_drhd_unit)."""
        return next(iommu for iommu in self.iommus if iommu.unit is device.unit)

    def poll_slot(self, cpu: Cpu) -> Maddr:
        """Return the address of a CPU's status word (Xen: vtd/qinval.c, in queue_invalidate_wait)."""
        return Maddr(self.poll_slots + WORD_BYTES * cpu.number)

    def iommu_bitmap(self, domain: Domain) -> Bitmap:
        """Return a domain's bitmap: one bit for each unit that translates for it (Xen: vtd/iommu.c, iommu_bitmap)."""
        return self.bitmaps[domain.number]
