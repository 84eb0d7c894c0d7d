"""What the hooks of a revision use of the VT-d driver: a revision's vtd.py imports it from here."""

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
from emu.hypervisor.vtd.qinval import NOT_ISSUED, AwaitUnit, flush_qi, invalidate_sync, qinval_update
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
