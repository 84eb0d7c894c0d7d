"""The state of the AMD-Vi driver (Xen: include/asm-x86/amd-iommu.h)."""

from collections.abc import Mapping

import attrs

from emu.cpus import SpinLock
from emu.devices.device import Device
from emu.hypervisor.faults import Faults
from emu.hypervisor.fixes import Fix
from emu.iommus.amd.unit import AmdUnit

AS_OF_THE_PATCH = frozenset(
    {Fix.HWDOM_ORDER, Fix.PRESENT_BIT, Fix.XSA_275, Fix.SIZE, Fix.NO_MERGE, Fix.FREE_AFTER_MERGE}
)
"""The repairs that the driver has unless a scenario changes them: those before the seed patch, and that of the wrong
test in the merged patch, which came some weeks later."""


@attrs.define(eq=False)
class AmdIommu:
    """The driver's state for one unit (Xen: include/asm-x86/amd-iommu.h, struct amd_iommu).

    Attributes:
        lock: guards its device table, and is held from posting a command until the wait for it has ended.
    """

    index: int
    unit: AmdUnit
    lock: SpinLock = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.lock = SpinLock(f"{self.unit.name}.lock")


@attrs.define(eq=False)
class DriverState:
    """The units of the machine, and the driver's state for all of them together.

    Attributes:
        devices: the devices of the machine, by name.
        fixes: the repairs that the driver's code has.
        faults: the faults that the strategy may inject.
        debug_build: an ASSERT of Xen that does not hold is a finding.
        no_merge: the domains whose leaves are no longer merged (Xen: include/asm-x86/iommu.h, arch_iommu.no_merge).
    """

    devices: Mapping[str, Device] = attrs.field(factory=dict)
    iommus: list[AmdIommu] = attrs.field(factory=list)
    fixes: set[Fix] = attrs.field(factory=lambda: set(AS_OF_THE_PATCH))
    faults: Faults = attrs.field(factory=Faults)
    debug_build: bool = False
    no_merge: set[int] = attrs.field(factory=set)

    def iommu_of(self, device: Device) -> AmdIommu:
        """Return the unit that a device stands behind (Xen: amd/iommu_init.c, find_iommu_for_device)."""
        return next(iommu for iommu in self.iommus if iommu.unit is device.unit)
