"""Which domain has a device: its context entry, and what was cached through it (Xen: drivers/passthrough/vtd/iommu.c).

Not modelled: pcidevs_lock, which Xen's callers hold around all of this but the freeing of a domain id. Give one CPU
the work, or order the CPUs with signals.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Access, Kind, Operation
from emu.errors import ScenarioError
from emu.hypervisor.domain import Domain, check_cast
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import EINVAL, ENODEV, OK
from emu.hypervisor.vtd.driver import (
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


class FindDevice(Operation[bool]):
    """Look for a domain's device among some; return whether there is one (Xen: pci_get_pdev_by_domain)."""

    __slots__ = ("devices", "domain", "found")

    event = "device.find"

    def __init__(self, domain: Domain, devices: Iterable[Device]) -> None:
        self.domain = domain
        self.devices = tuple(devices)
        self.found = False

    def accesses(self) -> Iterable[Access]:
        return (device.driver_access(Kind.READ) for device in self.devices)

    def perform(self, step: int) -> bool:
        self.found = any(device.driven_by == self.domain.number for device in self.devices)
        return self.found

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"domain": self.domain.number, "found": self.found}


def check_device(device: object) -> None:
    """Refuse what is no device.

    Raises:
        ScenarioError: saying where devices are.
    """
    if not isinstance(device, Device):
        raise ScenarioError(f"{device!r} is no device: write m.devices[{str(device)!r}]")


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
            0; or -EINVAL if the tables of another domain translate for it.
        """
        check_cast(cpu, domain)
        check_device(device)
        iommu = self.driver.iommu_of(device)
        async with iommu.lock.held(cpu):
            if await cpu.load64(self.context_entry(device), "context.read", bdf=device.bdf) & PRESENT:
                return OK if await FindDevice(domain, [device]) else EINVAL
            did = await iommu.domids.take(domain.number)
            entry = encode_context_entry(ContextEntry(did, domain.pgd, domain.levels))
            await self.write_context(cpu, device, [(1, entry >> 64), (0, entry & WORD_MASK)])
        result = await self.flush(cpu, iommu, 0, device, non_present=True)
        await domain.iommu_bitmap.set(iommu.index)
        await HandOver(device, domain.number)
        return result

    async def detach(self, cpu: Cpu, domain: Domain, device: Device) -> int:
        """Have nothing translate for a domain's device any more (Xen: deassign_device, domain_context_unmap).

        With the domain's last device behind a unit goes its id there; until f3401d65d9 also where that has failed.

        Returns:
            0, or a negative errno: -ENODEV where the domain does not have the device.
        """
        check_cast(cpu, domain)
        check_device(device)
        if not await FindDevice(domain, [device]):
            return ENODEV
        iommu = self.driver.iommu_of(device)
        result = await self.clear_context(cpu, domain, device)
        if result == OK or Fix.KEEP_ID not in self.driver.fixes:
            others = (other for other in self.devices.values() if other.unit is device.unit and other is not device)
            if not await FindDevice(domain, others):
                await self.clean_up(domain, iommu)
        if result == OK:
            await HandOver(device, None)
        return result

    async def clear_context(self, cpu: Cpu, domain: Domain, device: Device) -> int:
        """Clear a device's context entry, if it is present, and flush (Xen: domain_context_unmap_one).

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
            return await self.flush(cpu, iommu, did, device, non_present=False)

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
