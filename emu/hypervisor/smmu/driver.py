"""The SMMU driver without its hooks, which belong to a revision (Xen: arm/smmu.c)."""

from collections.abc import Iterable

import attrs

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Variable
from emu.errors import InternalError
from emu.hypervisor.domain import Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import MapFlags
from emu.hypervisor.smmu.assignment import arm_smmu_attach_dev, arm_smmu_detach_dev, arm_smmu_reassign_dev
from emu.hypervisor.smmu.before_first_step import cache_leaf, enter_stream, reset
from emu.hypervisor.smmu.entries import p2m_write_pte
from emu.hypervisor.smmu.p2m_init import enter_page, p2m_init
from emu.hypervisor.smmu.state import AS_OF_THE_PATCH, DriverState, SmmuIommu, XenDomain
from emu.iommus.smmu.formats import encode_smr
from emu.iommus.smmu.unit import SmmuUnit
from emu.iommus.unit import Unit
from emu.units import Dfn, Maddr, Mfn


@attrs.define(eq=False)
class SmmuDriver(DriverState):
    """The driver. `Driver` documents its methods."""

    known_fixes: frozenset[Fix] = AS_OF_THE_PATCH | {Fix.HAS_IOMMU, Fix.FLUSH_BEFORE_FREE}

    def add_unit(self, unit: Unit) -> None:
        """Add a unit, and let every stream fault (Xen: arm/smmu.c, arm_smmu_device_dt_probe).

        Raises:
            InternalError: if it is no SMMUv2.
        """
        if not isinstance(unit, SmmuUnit):
            raise InternalError(f"the SMMU driver was given {unit!r}")
        reset(unit.registers)
        self.iommus.append(SmmuIommu(len(self.iommus), unit))

    def add_device(self, device: Device) -> None:
        """Refuse a device whose stream id is too wide; no register matches its stream yet, so its requests fault."""
        encode_smr(device.source_id)
        self.attached[device.bdf] = Variable(f"{device.bdf}.attached", None)

    def add_domain(self, domain: Domain) -> None:
        """Give a domain its p2m (Xen: arm/smmu.c, arm_smmu_iommu_domain_init)."""
        p2m_init(domain, self.iommus[0].unit.settings.ipa_bits)
        self.domains[domain.number] = XenDomain(domain.number)

    def assign(self, domain: Domain, device: Device) -> None:
        """Let a domain's tables translate for a device (Xen: arm/smmu.c, arm_smmu_attach_dev)."""
        enter_stream(self, domain, device)

    def premap(
        self, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags, users: Iterable[Device], page_order: int = 0
    ) -> None:
        """Map 2^page_order pages by one leaf, and cache it as if some devices of the domain had used it."""
        leaf, reads = enter_page(self.iommus[0].unit.memory, domain, dfn, mfn, flags, page_order)
        for device in users:
            cache_leaf(self, domain, device, dfn, leaf, reads)

    async def attach(self, cpu: Cpu, domain: Domain, device: Device) -> int:
        """Attach a device (Xen: arm/smmu.c, arm_smmu_attach_dev)."""
        return await arm_smmu_attach_dev(cpu, self, domain, device)

    async def detach(self, cpu: Cpu, domain: Domain, device: Device) -> int:
        """Detach a device (Xen: arm/smmu.c, arm_smmu_detach_dev)."""
        return await arm_smmu_detach_dev(cpu, self, domain, device)

    async def reassign(self, cpu: Cpu, source: Domain, target: Domain, device: Device) -> int:
        """Move a device from one domain to another (Xen: arm/smmu.c, arm_smmu_reassign_dev)."""
        return await arm_smmu_reassign_dev(cpu, self, source, target, device)

    async def store_entry(self, cpu: Cpu, domain: Domain, dfn: Dfn, level: int, address: Maddr, word: int) -> None:
        """Store an entry, and write its line back if that is needed (Xen: arch/arm/p2m.c, p2m_write_pte)."""
        await p2m_write_pte(cpu, domain, dfn, address, word, level)
