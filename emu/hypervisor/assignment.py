"""Which domain has a device: its context entry, and what was cached through it (Xen: drivers/passthrough/vtd/iommu.c).

Not modelled: pcidevs_lock, which Xen's callers hold around all of this but the freeing of a domain id. Give one CPU
the work, or order the CPUs with signals.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from emu.cpus import Cpu
from emu.devices import Device
from emu.engine import Access, Kind, Operation
from emu.hypervisor.domain import Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import EINVAL, OK
from emu.hypervisor.vtd import (
    NOT_ISSUED,
    VtdDriver,
    VtdIommu,
    iommu_flush_cache_entry,
    iommu_flush_context_device,
    iommu_flush_iotlb_dsi,
    iommu_flush_write_buffer,
)
from emu.iommus.vtd.contexts import context_entry_address, root_entry_address
from emu.iommus.vtd.formats import ContextEntry, decode_root_entry, encode_context_entry
from emu.memory import WORD_MASK
from emu.units import WORD_BYTES, Maddr

PRESENT = 1


class HandOver(Operation[None]):
    """Let a domain's driver program a device, or nobody's (Xen: the device moves to that domain's list)."""

    __slots__ = ("device", "domain")

    event = "device.hand_over"

    def __init__(self, device: Device, domain: int | None) -> None:
        self.device = device
        self.domain = domain

    def accesses(self) -> Iterable[Access]:
        yield self.device.driver_access(Kind.WRITE)

    def perform(self, step: int) -> None:
        self.device.driven_by = self.domain

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"bdf": self.device.bdf, "domain": self.domain}


class FindOthers(Operation[bool]):
    """Look for another device of a domain behind a unit; return whether there is one."""

    __slots__ = ("device", "devices", "domain", "found")

    event = "device.find"

    def __init__(self, domain: Domain, device: Device, devices: Iterable[Device]) -> None:
        self.domain = domain
        self.device = device
        self.devices = tuple(devices)
        self.found = False

    def accesses(self) -> Iterable[Access]:
        return (device.driver_access(Kind.READ) for device in self.devices)

    def perform(self, step: int) -> bool:
        others = (other for other in self.devices if other is not self.device and other.unit is self.device.unit)
        self.found = any(other.driven_by == self.domain.number for other in others)
        return self.found

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"domain": self.domain.number, "found": self.found}


@attrs.frozen
class Assignment:
    """Attaches devices to domains, and takes them away.

    Attributes:
        devices: of the machine, by name.
    """

    driver: VtdDriver
    devices: Mapping[str, Device]

    def context_entry(self, device: Device) -> Maddr:
        """Return where a device's context entry lies."""
        root_entry = root_entry_address(device.unit.contexts.root_table, device.source_id)
        table = decode_root_entry(device.unit.memory.peek(root_entry))
        return context_entry_address(table or Maddr(0), device.source_id)

    async def write_context(self, cpu: Cpu, device: Device, halves: Iterable[tuple[int, int]]) -> None:
        """Store the halves of a context entry, each given by its number, in the order given; write the line back."""
        address = self.context_entry(device)
        for half, value in halves:
            await cpu.store64(address + WORD_BYTES * half, value, "context.write", bdf=device.bdf)
        await iommu_flush_cache_entry(cpu, self.driver, address)

    async def attach(self, cpu: Cpu, domain: Domain, device: Device) -> int:
        """Have a domain's tables translate for a device (Xen: domain_context_mapping_one).

        Returns:
            0, or -EINVAL if something translates for it already.
        """
        iommu = self.driver.iommu_of(device)
        async with iommu.lock.held(cpu):
            if await cpu.load64(self.context_entry(device), "context.read", bdf=device.bdf) & PRESENT:
                return EINVAL
            did = await iommu.domids.take(domain.number)
            entry = encode_context_entry(ContextEntry(did, domain.pgd, domain.levels))
            await self.write_context(cpu, device, [(1, entry >> 64), (0, entry & WORD_MASK)])
        result = await self.flush(cpu, iommu, 0, device, non_present=True)
        await domain.iommu_bitmap.set(iommu.index)
        await HandOver(device, domain.number)
        return result

    async def detach(self, cpu: Cpu, domain: Domain, device: Device) -> int:
        """Have nothing translate for a device any more (Xen: domain_context_unmap and its _one).

        With the domain's last device behind a unit goes its id there.

        Returns:
            0, or a negative errno: -EINVAL where the domain has no id on the unit.
        """
        iommu = self.driver.iommu_of(device)
        async with iommu.lock.held(cpu):
            if not await cpu.load64(self.context_entry(device), "context.read", bdf=device.bdf) & PRESENT:
                return OK
            await self.write_context(cpu, device, [(0, 0), (1, 0)])
            did = await iommu.domids.find(domain.number)
            if did is None:
                return EINVAL
            result = await self.flush(cpu, iommu, did, device, non_present=False)
        if result != OK:
            return result
        if not await FindOthers(domain, device, self.devices.values()):
            await self.clean_up(domain, iommu)
        await HandOver(device, None)
        return OK

    async def clean_up(self, domain: Domain, iommu: VtdIommu) -> None:
        """Free a domain's id on a unit that translates for it no more (Xen: cleanup_domid_map)."""
        await domain.iommu_bitmap.clear(iommu.index)
        did = await iommu.domids.find(domain.number)
        if did is not None:
            await iommu.domids.give_back(did, map_first=Fix.XSA_399 in self.driver.fixes)

    async def reassign(self, cpu: Cpu, source: Domain, target: Domain, device: Device) -> int:
        """Give a device of one domain to another (Xen: reassign_device_ownership)."""
        result = await self.detach(cpu, source, device)
        return result or await self.attach(cpu, target, device)

    async def flush(self, cpu: Cpu, iommu: VtdIommu, did: int, device: Device, *, non_present: bool) -> int:
        """Flush the context cache and then the IOTLB: a request in flight may refill this through the old entry."""
        result = await iommu_flush_context_device(
            cpu, self.driver, iommu, did, device.source_id, non_present=non_present
        )
        error = await iommu_flush_iotlb_dsi(cpu, self.driver, iommu, did, non_present=non_present)
        if NOT_ISSUED in {result, error}:
            await iommu_flush_write_buffer(cpu, iommu)
        return min(result, error, OK)
