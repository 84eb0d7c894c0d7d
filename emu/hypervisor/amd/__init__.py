"""The AMD-Vi driver without its hooks: a revision's amd.py imports from here the parts that hooks use.

state.py       what the driver holds
superpages.py  storing entries; splitting superpages and merging leaves
tables.py      finding and making page tables, and what storing a leaf takes
device_entries.py  storing device table entries
paging.py      growth of a guest's page tables
queue.py       the command buffer as the driver uses it
flush.py       flushes of page tables and device table entries
assignment.py  attaching, detaching and moving devices
before_first_step.py  what stands there before the first step
driver.py      the driver, made of these
"""

from emu.hypervisor.amd.driver import AmdDriver
from emu.hypervisor.amd.flush import amd_iommu_flush_all_pages, amd_iommu_flush_pages, flush_range
from emu.hypervisor.amd.paging import update_paging_mode
from emu.hypervisor.amd.queue import flush_command_buffer, send_iommu_command
from emu.hypervisor.amd.state import AmdIommu
from emu.hypervisor.amd.superpages import store_pde
from emu.hypervisor.amd.tables import clear_leaf, has_changed, iommu_pde_from_dfn, merge_leaf
from emu.hypervisor.commands import AwaitUnit
from emu.hypervisor.entries import StoreEntry, leaf_section, read_pte, write_pte, write_pte_halves

__all__ = [
    "AmdDriver",
    "AmdIommu",
    "AwaitUnit",
    "StoreEntry",
    "amd_iommu_flush_all_pages",
    "amd_iommu_flush_pages",
    "clear_leaf",
    "flush_command_buffer",
    "flush_range",
    "has_changed",
    "iommu_pde_from_dfn",
    "leaf_section",
    "merge_leaf",
    "read_pte",
    "send_iommu_command",
    "store_pde",
    "update_paging_mode",
    "write_pte",
    "write_pte_halves",
]
