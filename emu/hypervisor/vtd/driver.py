"""The VT-d driver without its hooks, which belong to a revision (Xen: vtd/iommu.c)."""

from collections.abc import Iterable

import attrs

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.errors import InternalError
from emu.hypervisor.bitmaps import Bitmap
from emu.hypervisor.domain import Domain
from emu.hypervisor.entries import StoreEntry, enter_leaf
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import MapFlags
from emu.hypervisor.vtd.assignment import deassign_device, domain_context_mapping_one, reassign_device_ownership
from emu.hypervisor.vtd.before_first_step import cache_leaf, context_table, enter_context
from emu.hypervisor.vtd.flush import iommu_flush_cache_entry
from emu.hypervisor.vtd.state import DriverState, VtdIommu
from emu.iommus.unit import Unit
from emu.iommus.vtd.formats import encode_leaf
from emu.iommus.vtd.unit import VtdUnit
from emu.units import Dfn, Maddr, Mfn, frame_address


@attrs.define(eq=False)
class VtdDriver(DriverState):
    """The driver. `Driver` documents its methods."""

    known_fixes: frozenset[Fix] = frozenset(
        {Fix.XSA_78, Fix.HWDOM_ORDER, Fix.XSA_399, Fix.KEEP_ID, Fix.FIRST_ERROR, Fix.OWN_ID, Fix.DYING}
    )

    def add_unit(self, unit: Unit) -> None:
        """Add a unit (Xen: vtd/iommu.c, iommu_alloc).

        Raises:
            InternalError: if it is no VT-d unit.
        """
        if not isinstance(unit, VtdUnit):
            raise InternalError(f"the VT-d driver was given {unit!r}")
        self.iommus.append(VtdIommu(len(self.iommus), unit))

    def add_device(self, device: Device) -> None:
        """Make the context table of a device's bus (Xen: vtd/iommu.c, bus_to_context_maddr)."""
        context_table(self.iommu_of(device).unit, device.source_id)

    def add_domain(self, domain: Domain) -> None:
        """Give a domain its highest table (Xen: vtd/iommu.c, intel_iommu_domain_init and addr_to_dma_page_maddr)."""
        domain.levels = domain.most_levels = self.iommus[0].unit.settings.levels
        domain.enter_root(frame_address(domain.frames.add_table(domain, Dfn(0))))
        self.bitmaps[domain.number] = Bitmap(f"d{domain.number}.iommu_bitmap")

    def assign(self, domain: Domain, device: Device) -> None:
        """Enter a device's context entry (Xen: vtd/iommu.c, domain_context_mapping)."""
        enter_context(self, domain, device)

    def premap(
        self, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags, users: Iterable[Device], page_order: int = 0
    ) -> None:
        """Map 2^page_order pages by one leaf, and cache it as if some devices of the domain had used it."""
        level = domain.format.leaf_level(page_order)
        leaf = self.leaf(mfn, flags, level)
        reads = enter_leaf(self.iommus[0].unit.memory, domain, dfn, leaf, level)
        for device in users:
            cache_leaf(self, domain, device, dfn, leaf, reads)

    def leaf(self, mfn: Mfn, flags: MapFlags, level: int = 1) -> int:
        """Return the leaf of a level that maps the frames from one on (Xen: vtd/iommu.c, in intel_iommu_map_page)."""
        return encode_leaf(
            frame_address(mfn),
            read=MapFlags.READABLE in flags,
            write=MapFlags.WRITABLE in flags,
            snoop=self.snoop_control,
            level=level,
            bits=self.iommus[0].unit.settings.superpage_bits,
        )

    async def attach(self, cpu: Cpu, domain: Domain, device: Device) -> int:
        """Attach a device (Xen: vtd/iommu.c, domain_context_mapping)."""
        return await domain_context_mapping_one(cpu, self, domain, device)

    async def detach(self, cpu: Cpu, domain: Domain, device: Device) -> int:
        """Detach a device (Xen: vtd/iommu.c, domain_context_unmap)."""
        return await deassign_device(cpu, self, domain, device)

    async def reassign(self, cpu: Cpu, source: Domain, target: Domain, device: Device) -> int:
        """Move a device from one domain to another (Xen: vtd/iommu.c, reassign_device_ownership)."""
        return await reassign_device_ownership(cpu, self, source, target, device)

    async def store_entry(self, cpu: Cpu, domain: Domain, dfn: Dfn, level: int, address: Maddr, word: int) -> None:
        """Store an entry and write its line back (Xen: vtd/iommu.c, in dma_pte_clear_one)."""
        await StoreEntry(cpu, domain, dfn, level, address, word)
        await iommu_flush_cache_entry(cpu, self, address)
