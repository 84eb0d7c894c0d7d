"""The VT-d driver without its hooks: a revision's vtd.py imports from here the parts that hooks use.

state.py       what the driver holds
domain_ids.py  the domain ids of a unit
tables.py      finding and making page tables
queue.py       the invalidation queue as the driver uses it
flush.py       flushes of context cache, IOTLB and write buffer
assignment.py  context entries of devices
before_first_step.py  what stands there before the first step
driver.py      the driver, made of these
"""

from emu.hypervisor.commands import AwaitUnit
from emu.hypervisor.entries import StoreEntry, leaf_section, read_pte, write_pte
from emu.hypervisor.vtd.driver import VtdDriver
from emu.hypervisor.vtd.flush import (
    iommu_flush_cache_entry,
    iommu_flush_context_device,
    iommu_flush_iotlb,
    iommu_flush_iotlb_dsi,
    iommu_flush_iotlb_psi,
    iommu_flush_write_buffer,
)
from emu.hypervisor.vtd.queue import NOT_ISSUED, flush_qi, invalidate_sync, qinval_update
from emu.hypervisor.vtd.state import VtdIommu
from emu.hypervisor.vtd.tables import addr_to_dma_page_maddr

__all__ = [
    "NOT_ISSUED",
    "AwaitUnit",
    "StoreEntry",
    "VtdDriver",
    "VtdIommu",
    "addr_to_dma_page_maddr",
    "flush_qi",
    "invalidate_sync",
    "iommu_flush_cache_entry",
    "iommu_flush_context_device",
    "iommu_flush_iotlb",
    "iommu_flush_iotlb_dsi",
    "iommu_flush_iotlb_psi",
    "iommu_flush_write_buffer",
    "leaf_section",
    "qinval_update",
    "read_pte",
    "write_pte",
]
