"""The SMMU driver without its hooks, which belong to a revision (Xen: arm/smmu.c)."""

from collections.abc import Iterable

import attrs

from emu.cpus import Cpu
from emu.cpus.tlb import CpuTlb
from emu.devices.device import Device
from emu.errors import InternalError
from emu.hypervisor.domain import Domain
from emu.hypervisor.entries import enter_leaf
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import MapFlags
from emu.hypervisor.p2m_types import P2mType
from emu.hypervisor.smmu.assignment import arm_smmu_attach_dev, arm_smmu_detach_dev, arm_smmu_reassign_dev
from emu.hypervisor.smmu.before_first_step import cache_leaf, enter_stream
from emu.hypervisor.smmu.entries import next_table, p2m_word, p2m_write_pte, table_word
from emu.hypervisor.smmu.state import AS_OF_THE_PATCH, DriverState, SmmuIommu, XenDomain
from emu.iommus.smmu.formats import encode_smr, root_tables
from emu.iommus.smmu.unit import SmmuUnit
from emu.iommus.unit import Unit
from emu.units import Dfn, Maddr, Mfn, frame_address


@attrs.define(eq=False)
class SmmuDriver(DriverState):
    """The driver. `Driver` documents its methods."""

    known_fixes: frozenset[Fix] = AS_OF_THE_PATCH | {Fix.HAS_IOMMU, Fix.FLUSH_BEFORE_FREE}

    def add_unit(self, unit: Unit) -> None:
        """Add a unit (Xen: arm/smmu.c, arm_smmu_device_dt_probe).

        Raises:
            InternalError: if it is no SMMUv2.
        """
        if not isinstance(unit, SmmuUnit):
            raise InternalError(f"the SMMU driver was given {unit!r}")
        self.iommus.append(SmmuIommu(len(self.iommus), unit))

    def add_device(self, device: Device) -> None:
        """Refuse a device whose stream id is too wide; no register matches its stream yet, so its requests fault."""
        encode_smr(device.source_id)

    def add_domain(self, domain: Domain) -> None:
        """Give a domain its p2m, of tables that follow one another at the top (Xen: arch/arm/p2m.c, p2m_alloc_table).

        Translation tables of CPUs and SMMUs are the same, so there is nothing to keep in step with another table.
        """
        settings = self.iommus[0].unit.settings
        domain.levels = domain.most_levels = self.iommus[0].unit.format.depths[0]
        span = 1 << domain.format.orders[domain.levels + 1]
        count = root_tables(settings.ipa_bits)
        first, *_ = [domain.frames.add_table(domain, Dfn(span // count * number)) for number in range(count)]
        domain.enter_root(frame_address(first))
        domain.cpu_tlb = CpuTlb(domain.number)
        self.domains[domain.number] = XenDomain(domain.number)

    def assign(self, domain: Domain, device: Device) -> None:
        """Let a domain's tables translate for a device (Xen: arm/smmu.c, arm_smmu_attach_dev)."""
        enter_stream(self, domain, device)

    def premap(
        self, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags, users: Iterable[Device], page_order: int = 0
    ) -> None:
        """Map 2^page_order pages by one leaf, and cache it as if some devices of the domain had used it.

        A frame that belongs to another domain is entered as a foreign page.
        """
        level, memory = domain.format.leaf_level(page_order), self.iommus[0].unit.memory
        kinds = (P2mType.RAM_RO, P2mType.RAM_RW)
        if domain.frames.enter_foreign(mfn, domain):
            kinds = (P2mType.MAP_FOREIGN_RO, P2mType.MAP_FOREIGN_RW)
        leaf = p2m_word(domain, mfn, kinds[MapFlags.WRITABLE in flags], level)
        *above, _ = reads = enter_leaf(memory, domain, dfn, leaf, level)
        for read in above:
            memory.put(read.address, table_word(next_table(memory.peek(read.address))))
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
