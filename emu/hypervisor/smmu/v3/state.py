"""The state of the SMMUv3 driver (Xen: arm/smmu-v3.c)."""

from collections.abc import Mapping

import attrs

from emu.cpus import SpinLock
from emu.devices.device import Device
from emu.hypervisor.bitmaps import Bitmap
from emu.hypervisor.domain import Domain
from emu.hypervisor.faults import Faults
from emu.hypervisor.fixes import Fix
from emu.hypervisor.smmu.state import XenDomain
from emu.iommus.smmu.v3.unit import Smmuv3Unit

AS_OF_TODAY = frozenset({Fix.QUEUE_CLEAN})
"""The repairs that the driver has unless a scenario changes them: all that Xen has today."""

VMIDS = 1 << 16
"""The VMIDs of a unit. Number 0 is no domain's."""


@attrs.define(eq=False)
class Smmuv3Iommu:
    """The driver's state for one unit (Xen: arm/smmu-v3.c, struct arm_smmu_device).

    Attributes:
        vmid_map: one bit for each VMID that is in use.
        cmdq_lock: guards its command queue (Xen: arm/smmu-v3.c, struct arm_smmu_cmdq).
    """

    index: int
    unit: Smmuv3Unit
    vmid_map: Bitmap = attrs.field(init=False)
    cmdq_lock: SpinLock = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.vmid_map = Bitmap(f"{self.unit.name}.vmid_map")
        self.vmid_map.put(0)
        self.cmdq_lock = SpinLock(f"{self.unit.name}.cmdq_lock")


@attrs.define(eq=False)
class DriverState:
    """The units of the machine, and the driver's state for all of them together.

    Attributes:
        devices: the devices of the machine, by name.
        domains: the driver's state for each domain, by number.
        attached: the domain to whose tables the entry of each attached device leads, by name of the device.
        fixes: the repairs that the driver's code has.
        faults: the faults that the strategy may inject.
        debug_build: an ASSERT of Xen that does not hold is a finding.
    """

    devices: Mapping[str, Device] = attrs.field(factory=dict)
    iommus: list[Smmuv3Iommu] = attrs.field(factory=list)
    domains: dict[int, XenDomain] = attrs.field(factory=dict)
    attached: dict[str, Domain] = attrs.field(factory=dict)
    fixes: set[Fix] = attrs.field(factory=lambda: set(AS_OF_TODAY))
    faults: Faults = attrs.field(factory=Faults)
    debug_build: bool = False

    def iommu_of(self, device: Device) -> Smmuv3Iommu:
        """Return the unit that a device stands behind (Xen: arm/smmu-v3.c, arm_smmu_get_by_dev)."""
        return next(iommu for iommu in self.iommus if iommu.unit is device.unit)
