"""Flushes of cached page-table and device table entries (Xen: amd/iommu_cmd.c and amd/iommu_map.c).

None of them reports a failure.
"""

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.hypervisor.amd.queue import execute
from emu.hypervisor.amd.state import AmdIommu, DriverState
from emu.hypervisor.domain import Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import INVALID_DFN
from emu.iommus.amd.formats import InvalidateDeviceEntry, InvalidatePages, encode_command
from emu.iommus.formats import base_of_order
from emu.units import Dfn

SUPERPAGE_LEVELS = (2, 3)

ALL_AS_PAGE = Dfn(0x7_FFFF_FFFF_FFFF)
"""The number of all pages, taken for an address: then it names one page, and no size."""


async def amd_iommu_flush_pages(cpu: Cpu, driver: DriverState, domain: Domain, dfn: Dfn, order: int | None) -> None:
    """Flush 2^order pages of a domain on every unit, or all of them (Xen: amd/iommu_cmd.c, _amd_iommu_flush_pages).

    Every unit is flushed, whether or not the domain uses it. A flush of one page leaves cached entries of higher
    tables. Device-TLBs are not modelled.
    """
    for iommu in driver.iommus:
        async with iommu.lock.held(cpu):
            await execute(cpu, driver, iommu, invalidate_iommu_pages(driver, domain.number, dfn, order))


def invalidate_iommu_pages(driver: DriverState, domain_id: int, dfn: Dfn, order: int | None) -> int:
    """Return the command that invalidates 2^order pages of a domain id (Xen: amd/iommu_cmd.c, invalidate_iommu_pages).

    Until 3a1ba3c2e7 the bits below the size were set, but the bit that says the size was not cleared, so the size
    depended on the address; cached entries of higher tables stayed; and a flush of all pages named a single page.
    """
    if order is not None and order > 0 and Fix.SIZE not in driver.fixes:
        filled = Dfn(dfn | (1 << order - 1) - 1)
        return encode_command(InvalidatePages(domain_id, filled)) | 1 << 64
    if order is None and Fix.SIZE not in driver.fixes:
        return encode_command(InvalidatePages(domain_id, ALL_AS_PAGE))
    first = Dfn(0) if order is None else base_of_order(dfn, order)
    return encode_command(InvalidatePages(domain_id, first, order, directory=order != 0))


async def amd_iommu_flush_unit(cpu: Cpu, driver: DriverState, iommu: AmdIommu, domain_id: int) -> None:
    """Flush all pages of a domain id on one unit, under its lock (Xen: amd/iommu_cmd.c, since 5fc98b9708)."""
    await execute(cpu, driver, iommu, invalidate_iommu_pages(driver, domain_id, Dfn(0), None))


async def amd_iommu_flush_all_pages(cpu: Cpu, driver: DriverState, domain: Domain) -> None:
    """Flush all pages of a domain on every unit (Xen: amd/iommu_cmd.c, amd_iommu_flush_all_pages)."""
    await amd_iommu_flush_pages(cpu, driver, domain, Dfn(0), None)


async def amd_iommu_flush_device(cpu: Cpu, driver: DriverState, iommu: AmdIommu, device: Device) -> None:
    """Flush a device's table entry; the caller holds the unit's lock (Xen: amd/iommu_cmd.c, amd_iommu_flush_device)."""
    await execute(cpu, driver, iommu, encode_command(InvalidateDeviceEntry(device.source_id)))


def flush_range(domain: Domain, dfn: Dfn, page_count: int) -> int | None:
    """Return the order of the flush that covers a range: one page, one block of 2 MiB or of 1 GiB; None for all pages.

    A bad range is covered by a flush of all pages (Xen: amd/iommu_map.c, amd_iommu_flush_iotlb_pages).
    """
    last = dfn + page_count - 1
    if page_count <= 0 or dfn == INVALID_DFN or last >= INVALID_DFN:
        return None
    if page_count == 1:
        return 0
    orders = (domain.format.orders[level] for level in SUPERPAGE_LEVELS)
    return next((order for order in orders if dfn >> order == last >> order), None)
