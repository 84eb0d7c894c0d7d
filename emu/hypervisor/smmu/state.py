"""The state of the SMMU driver (Xen: arm/smmu.c)."""

from collections.abc import Mapping
from typing import NamedTuple

import attrs

from emu.cpus import SpinLock
from emu.devices.device import Device
from emu.engine import Variable
from emu.hypervisor.bitmaps import Bitmap
from emu.hypervisor.faults import Faults
from emu.hypervisor.fixes import Fix
from emu.iommus.smmu.unit import SmmuUnit

AS_OF_THE_PATCH = frozenset({Fix.HWDOM_ORDER})
"""The repairs that the driver has unless a scenario changes them: that of a mistake in the merged patch."""


@attrs.define(eq=False)
class SmmuIommu:
    """The driver's state for one unit (Xen: arm/smmu.c, struct arm_smmu_device).

    Attributes:
        context_map: one bit for each context bank that is in use.
        smr_map: one bit for each stream match register that is in use.
    """

    index: int
    unit: SmmuUnit
    context_map: Bitmap = attrs.field(init=False)
    smr_map: Bitmap = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.context_map = Bitmap(f"{self.unit.name}.context_map")
        self.smr_map = Bitmap(f"{self.unit.name}.smr_map")


class Context(NamedTuple):
    """What translates for a domain on one unit (Xen: arm/smmu.c, struct iommu_domain).

    Attributes:
        iommu: the index of the unit.
        bank: the context bank; on an SMMUv3 the VMID under which the unit caches what is the domain's.
        devices: how many devices of the domain it translates for.
    """

    iommu: int
    bank: int
    devices: int


Contexts = tuple[Context, ...]


def context_on(contexts: Contexts, iommu: int) -> Context | None:
    """Return a domain's context on a unit, named by its index; None if it has none there."""
    return next((context for context in contexts if context.iommu == iommu), None)


def with_devices(contexts: Contexts, context: Context, change: int) -> Contexts:
    """Return a domain's contexts after the number of devices of one has changed; without it at 0."""
    changed = context._replace(devices=context.devices + change)
    others = [other for other in contexts if other.iommu != context.iommu]
    return (*others, changed) if changed.devices else (*others,)


class Attached(NamedTuple):
    """What a device is attached by (Xen: arm/smmu.c, struct arm_smmu_xen_device).

    Attributes:
        domain: the number of the domain whose tables translate for it.
        stream: the number of the stream match register that matches it.
    """

    domain: int
    stream: int


@attrs.define(eq=False)
class XenDomain:
    """The driver's state for one domain (Xen: arm/smmu.c, struct arm_smmu_xen_domain).

    Attributes:
        lock: guards its contexts, and is held across a flush.
        contexts: what translates for it, one for each unit that it uses.
    """

    number: int
    lock: SpinLock = attrs.field(init=False)
    contexts: Variable[Contexts] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.lock = SpinLock(f"d{self.number}.xen_domain_lock")
        self.contexts = Variable(f"d{self.number}.contexts", ())


@attrs.define(eq=False)
class DriverState:
    """The units of the machine, and the driver's state for all of them together.

    Attributes:
        devices: the devices of the machine, by name.
        domains: the driver's state for each domain, by number.
        attached: what each device is attached by, by the device's name; None if it is not attached.
        fixes: the repairs that the driver's code has.
        faults: the faults that the strategy may inject.
        debug_build: an ASSERT of Xen that does not hold is a finding.
    """

    devices: Mapping[str, Device] = attrs.field(factory=dict)
    iommus: list[SmmuIommu] = attrs.field(factory=list)
    domains: dict[int, XenDomain] = attrs.field(factory=dict)
    attached: dict[str, Variable[Attached | None]] = attrs.field(factory=dict)
    fixes: set[Fix] = attrs.field(factory=lambda: set(AS_OF_THE_PATCH))
    faults: Faults = attrs.field(factory=Faults)
    debug_build: bool = False

    def iommu_of(self, device: Device) -> SmmuIommu:
        """Return the unit that a device stands behind (Xen: arm/smmu.c, find_smmu_for_device)."""
        return next(iommu for iommu in self.iommus if iommu.unit is device.unit)
