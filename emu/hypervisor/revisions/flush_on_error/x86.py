"""The x86 glue since 0229adb138 (Xen: x86/iommu.c): as merged."""

from emu.cpus import Cpu
from emu.hypervisor.console import printk
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import ERESTART, ESRCH, OK, READ_WRITE, FlushType
from emu.hypervisor.p2m import set_identity_p2m_entry
from emu.hypervisor.page_list import (
    INVALID_GFN,
    Add,
    ListName,
    MoveAll,
    PageType,
    ReadList,
    RemoveHead,
    get_gpfn_from_mfn,
)
from emu.hypervisor.teardown import iommu_teardown
from emu.units import Dfn, Mfn

from .iommu import iommu_iotlb_flush_all, iommu_map


async def arch_iommu_hwdom_init(cpu: Cpu, domain: Domain) -> None:
    """Map what else the hardware domain may reach (Xen: x86/iommu.c, arch_iommu_hwdom_init)."""
    if domain.is_passthrough:
        return
    flush_type = FlushType.NONE
    for i in range(domain.boot.pages):
        page = Dfn(i)
        if not domain.boot.maps(page):
            continue
        if domain.boot.is_translated:
            result = await set_identity_p2m_entry(cpu, domain, page)
        else:
            result, this_flush_type = await iommu_map(cpu, domain, page, Mfn(page), 0, READ_WRITE)
            flush_type = max(flush_type, this_flush_type)
        if result != OK:
            printk(cpu, f"d{domain.number}: IOMMU mapping of page {page:#x} failed: {result}")
        if i % domain.boot.softirq_interval == 0:
            await cpu.process_pending_softirqs()
    await iommu_iotlb_flush_all(cpu, domain, flush_type)


async def arch_iommu_populate_page_table(cpu: Cpu, domain: Domain) -> int:
    """Map a domain's pages when it gets its first device (Xen: x86/iommu.c, arch_iommu_populate_page_table).

    A pass that has to stop returns -ERESTART; the pages that it is done with are on the other list.
    """
    pages, result, done = domain.page_list, OK, 0
    async with pages.lock.held(cpu):
        if await domain.is_dying.read():
            result = ESRCH
        while result == OK and (mfn := await RemoveHead(pages)) is not None:
            if domain.is_hvm or await pages.types[mfn].read() is PageType.WRITABLE:
                gfn = await get_gpfn_from_mfn(pages, mfn)
                if gfn != INVALID_GFN:
                    result, _ = await iommu_map(cpu, domain, gfn, mfn, 0, READ_WRITE)
                if result != OK:
                    await Add(pages, ListName.PAGES, mfn, at_head=True)
                    break
            await Add(pages, ListName.RELMEM, mfn)
            done += 1
            is_left = done % domain.boot.preempt_interval == 0 and await ReadList(pages)
            if is_left and await cpu.preempt_check():
                result = ERESTART
        if result == OK:
            await MoveAll(pages, ListName.PAGES, ListName.RELMEM)
    if result == OK:
        result = await iommu_iotlb_flush_all(cpu, domain, FlushType.MODIFIED)
    if result not in {OK, ERESTART}:
        await iommu_teardown(domain)
    return result
