"""The AMD-Vi driver without its hooks, which belong to a revision (Xen: amd/pci_amd_iommu.c)."""

from collections.abc import Iterable

import attrs

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.errors import InternalError, ScenarioError
from emu.hypervisor.amd.assignment import (
    amd_iommu_disable_domain_device,
    amd_iommu_setup_domain_device,
    reassign_device,
)
from emu.hypervisor.amd.before_first_step import cache_leaf, enter_device
from emu.hypervisor.amd.paging import FIRST_LEVELS
from emu.hypervisor.amd.state import AS_OF_THE_PATCH, AmdIommu, DriverState
from emu.hypervisor.amd.superpages import count_before_first_step
from emu.hypervisor.domain import Domain
from emu.hypervisor.entries import enter_leaf, write_pte
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import MapFlags
from emu.iommus.amd.formats import DEPTHS
from emu.iommus.amd.unit import AmdUnit
from emu.iommus.unit import Unit
from emu.units import Dfn, Maddr, Mfn, frame_address, page_count


@attrs.define(eq=False)
class AmdDriver(DriverState):
    """The driver. `Driver` documents its methods."""

    known_fixes: frozenset[Fix] = AS_OF_THE_PATCH | {
        Fix.XSA_347,
        Fix.WAIT_FOR_EVER,
        Fix.RING_ROOM,
        Fix.FILL_FIRST,
        Fix.ABORT,
        Fix.LIVE_ENTRY,
        Fix.WHOLE_ENTRY,
        Fix.DYING,
    }

    def add_unit(self, unit: Unit) -> None:
        """Add a unit (Xen: amd/iommu_detect.c, amd_iommu_detect_one_acpi).

        Raises:
            InternalError: if it is no AMD-Vi unit.
        """
        if not isinstance(unit, AmdUnit):
            raise InternalError(f"the AMD-Vi driver was given {unit!r}")
        self.iommus.append(AmdIommu(len(self.iommus), unit))

    def add_device(self, device: Device) -> None:
        """Leave a device's entry zero: the unit lets its requests through untranslated."""

    def add_domain(self, domain: Domain) -> None:
        """Give a domain its highest table (Xen: amd/pci_amd_iommu.c, amd_iommu_domain_init)."""
        levels = self.iommus[0].unit.settings.levels
        domain.levels, domain.most_levels = (FIRST_LEVELS, DEPTHS[1]) if domain.is_hvm else (levels, levels)
        domain.enter_root(frame_address(domain.frames.add_table(domain, Dfn(0))))

    def assign(self, domain: Domain, device: Device) -> None:
        """Enter a device's table entry (Xen: amd/pci_amd_iommu.c, amd_iommu_setup_domain_device)."""
        enter_device(self, domain, device)

    def premap(
        self, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags, users: Iterable[Device], page_order: int = 0
    ) -> None:
        """Map 2^page_order pages by one leaf, and cache it as if some devices of the domain had used it.

        Raises:
            ScenarioError: if the tables do not reach the pages before they have grown.
        """
        if dfn + page_count(page_order) > domain.format.reach(domain.levels):
            raise ScenarioError(
                f"dfn {dfn:#x} lies beyond the reach of {domain.levels} levels of tables: map it by a call, "
                "which lets them grow"
            )
        level = domain.format.leaf_level(page_order)
        read, write = MapFlags.READABLE in flags, MapFlags.WRITABLE in flags
        leaf = domain.format.encode_leaf(frame_address(mfn), read=read, write=write, level=level)
        memory = self.iommus[0].unit.memory
        reads = enter_leaf(memory, domain, dfn, leaf, level)
        if Fix.NO_MERGE not in self.fixes:
            count_before_first_step(memory, domain, dfn, mfn, reads)
        for device in users:
            cache_leaf(self, domain, device, dfn, leaf, reads)

    async def attach(self, cpu: Cpu, domain: Domain, device: Device) -> int:
        """Attach a device (Xen: amd/pci_amd_iommu.c, amd_iommu_setup_domain_device)."""
        return await amd_iommu_setup_domain_device(cpu, self, domain, device)

    async def detach(self, cpu: Cpu, domain: Domain, device: Device) -> int:
        """Detach a device (Xen: amd/pci_amd_iommu.c, amd_iommu_disable_domain_device)."""
        return await amd_iommu_disable_domain_device(cpu, self, domain, device)

    async def reassign(self, cpu: Cpu, source: Domain, target: Domain, device: Device) -> int:
        """Move a device from one domain to another (Xen: amd/pci_amd_iommu.c, reassign_device)."""
        return await reassign_device(cpu, self, source, target, device)

    async def store_entry(self, cpu: Cpu, domain: Domain, dfn: Dfn, level: int, address: Maddr, word: int) -> None:
        """Store an entry in one step; walks snoop the CPUs' caches (Xen: amd/iommu_map.c, amd_iommu_unmap_page)."""
        await write_pte(cpu, domain, dfn, address, word, level)
