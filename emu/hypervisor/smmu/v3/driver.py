"""The SMMUv3 driver without its hooks, which belong to a revision (Xen: arm/smmu-v3.c)."""

from collections.abc import Iterable

import attrs

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.errors import InternalError
from emu.hypervisor.domain import Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import MapFlags
from emu.hypervisor.smmu.entries import p2m_write_pte
from emu.hypervisor.smmu.p2m_init import enter_page, p2m_init
from emu.hypervisor.smmu.state import XenDomain
from emu.hypervisor.smmu.v3.assignment import arm_smmu_attach_dev, arm_smmu_detach_dev, arm_smmu_reassign_dev
from emu.hypervisor.smmu.v3.before_first_step import cache_leaf, enter_bus, enter_stream
from emu.hypervisor.smmu.v3.state import AS_OF_TODAY, DriverState, Smmuv3Iommu
from emu.iommus.smmu.v3.unit import Smmuv3Unit
from emu.iommus.unit import Unit
from emu.units import Dfn, Maddr, Mfn


@attrs.define(eq=False)
class Smmuv3Driver(DriverState):
    """The driver. `Driver` documents its methods."""

    known_fixes: frozenset[Fix] = AS_OF_TODAY

    def add_unit(self, unit: Unit) -> None:
        """Add a unit (Xen: arm/smmu-v3.c, arm_smmu_device_probe).

        Raises:
            InternalError: if it is no SMMUv3.
        """
        if not isinstance(unit, Smmuv3Unit):
            raise InternalError(f"the SMMUv3 driver was given {unit!r}")
        self.iommus.append(Smmuv3Iommu(len(self.iommus), unit))

    def add_device(self, device: Device) -> None:
        """Give a device an entry that aborts its requests (Xen: arm/smmu-v3.c, arm_smmu_add_device)."""
        enter_bus(self, device)

    def add_domain(self, domain: Domain) -> None:
        """Give a domain its p2m (Xen: arm/smmu-v3.c, arm_smmu_iommu_xen_domain_init)."""
        p2m_init(domain, self.iommus[0].unit.settings.ipa_bits)
        self.domains[domain.number] = XenDomain(domain.number)

    def assign(self, domain: Domain, device: Device) -> None:
        """Let a domain's tables translate for a device (Xen: arm/smmu-v3.c, arm_smmu_attach_dev)."""
        enter_stream(self, domain, device)

    def premap(
        self, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags, users: Iterable[Device], page_order: int = 0
    ) -> None:
        """Map 2^page_order pages by one leaf, and cache it as if some devices of the domain had used it."""
        leaf, reads = enter_page(self.iommus[0].unit.memory, domain, dfn, mfn, flags, page_order)
        for device in users:
            cache_leaf(self, domain, device, dfn, leaf, reads)

    async def attach(self, cpu: Cpu, domain: Domain, device: Device) -> int:
        """Attach a device (Xen: arm/smmu-v3.c, arm_smmu_assign_dev)."""
        return await arm_smmu_attach_dev(cpu, self, domain, device)

    async def detach(self, cpu: Cpu, domain: Domain, device: Device) -> int:
        """Detach a device (Xen: arm/smmu-v3.c, arm_smmu_deassign_dev)."""
        return await arm_smmu_detach_dev(cpu, self, domain, device)

    async def reassign(self, cpu: Cpu, source: Domain, target: Domain, device: Device) -> int:
        """Move a device from one domain to another (Xen: arm/smmu-v3.c, arm_smmu_reassign_dev)."""
        return await arm_smmu_reassign_dev(cpu, self, source, target, device)

    async def store_entry(self, cpu: Cpu, domain: Domain, dfn: Dfn, level: int, address: Maddr, word: int) -> None:
        """Store an entry, and write its line back if that is needed (Xen: arch/arm/mmu/p2m.c, p2m_write_pte)."""
        await p2m_write_pte(cpu, domain, dfn, address, word, level)
