"""Growth of a guest's page tables (Xen: amd/iommu_map.c, update_paging_mode).

An HVM guest's tables begin with two levels, and get more when a page beyond their reach is mapped or unmapped. The
number of levels and the root are two fields, stored one after the other, and the entries of the guest's devices are
rewritten while the devices use them.
"""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any

from emu.cpus import Cpu
from emu.engine import Access, Kind, Operation, Space
from emu.hypervisor.amd.device_entries import dwords_of, entry_of, store_dwords
from emu.hypervisor.amd.flush import amd_iommu_flush_all_pages, amd_iommu_flush_device
from emu.hypervisor.amd.state import DriverState
from emu.hypervisor.amd.superpages import store_pde
from emu.hypervisor.assignment import FindDevice
from emu.hypervisor.domain import Domain
from emu.hypervisor.faults import Fault
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ENOMEM, OK
from emu.hypervisor.tables import AllocateTable
from emu.iommus.amd.formats import encode_table
from emu.units import Dfn, Maddr, frame_address

FIRST_LEVELS = 2
"""Levels with which an HVM guest's tables begin (Xen: amd/pci_amd_iommu.c, in amd_iommu_domain_init)."""


class Field(IntEnum):
    """A field of a domain (Xen: include/asm-x86/iommu.h, struct arch_iommu)."""

    MODE = 0
    ROOT = 1


def field_access(domain: Domain, field: Field, kind: Kind) -> Access:
    """Return the access to a field."""
    space: Space = ("paging", f"d{domain.number}")
    return Access.to(space, field, kind)


class ReadField(Operation[int]):
    """Read how many levels a domain's tables have, or the address of the highest."""

    __slots__ = ("domain", "field", "value")

    event = "paging.read"

    def __init__(self, domain: Domain, field: Field) -> None:
        self.domain = domain
        self.field = field
        self.value = 0

    def accesses(self) -> Iterable[Access]:
        return (field_access(self.domain, self.field, Kind.READ),)

    def perform(self, step: int) -> int:
        self.value = self.domain.levels if self.field is Field.MODE else self.domain.pgd
        return self.value

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"domain": self.domain.number, "field": self.field.name.lower(), "value": self.value}


class StoreField(Operation[None]):
    """Store how many levels a domain's tables have, or the address of the highest."""

    __slots__ = ("domain", "field", "value")

    event = "paging.write"

    def __init__(self, domain: Domain, field: Field, value: int) -> None:
        self.domain = domain
        self.field = field
        self.value = value

    def accesses(self) -> Iterable[Access]:
        return (field_access(self.domain, self.field, Kind.WRITE),)

    def perform(self, step: int) -> None:
        if self.field is Field.MODE:
            self.domain.levels = self.value
        else:
            self.domain.enter_root(Maddr(self.value))

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"domain": self.domain.number, "field": self.field.name.lower(), "value": self.value}


async def update_paging_mode(cpu: Cpu, driver: DriverState, domain: Domain, dfn: Dfn) -> int:
    """Let a guest's tables grow until they reach a page, under the mapping_lock.

    The old root stays where it is, below the first entry of the new one, so what is cached of it stays right. With the
    fix for dying domains the tables of one no longer grow: the walk that follows refuses it.

    Returns:
        0; or -ENOMEM, after which nothing has changed that a walk could read.
    """
    root, levels = domain.pgd, domain.levels
    if dfn < domain.format.reach(levels):
        return OK
    if Fix.DYING in driver.fixes and await domain.is_dying.read():
        return OK
    while dfn >= domain.format.reach(levels):
        if await driver.faults.strike(cpu, Fault.ALLOCATION):
            cpu.note("fault.inject", dfn=dfn, result=ENOMEM)
            return ENOMEM
        above = frame_address(await AllocateTable(domain, Dfn(0)))
        await store_pde(cpu, driver, domain, Dfn(0), above, encode_table(root, levels), levels + 1)
        root, levels = above, levels + 1
    await StoreField(domain, Field.MODE, levels)
    await StoreField(domain, Field.ROOT, root)
    entry = entry_of(domain.number, root, levels)
    for device in driver.devices.values():
        if await FindDevice(domain, [device]):
            iommu = driver.iommu_of(device)
            async with iommu.lock.held(cpu):
                await store_dwords(cpu, driver, device, dwords_of(entry), domain)
                await amd_iommu_flush_device(cpu, driver, iommu, device)
    await amd_iommu_flush_all_pages(cpu, driver, domain)
    return OK
