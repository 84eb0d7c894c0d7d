"""The SMMU driver without its hooks, and the p2m of Arm: a revision's smmu.py and p2m.py import from here.

v3/            the driver of the SMMUv3, which shares the p2m
state.py       what the driver holds
p2m_init.py    a p2m before the first step
entries.py     entries of a p2m: their words, and storing them
p2m_lock.py    the write lock of a p2m, and the flush of the CPUs' TLBs
tables.py      finding, making and freeing page tables
superpages.py  splitting blocks
set_way.py     entries that are invalid for hardware and valid for Xen
flush.py       flushes of the TLBs of SMMUs
assignment.py  attaching, detaching and moving devices
before_first_step.py  what stands there before the first step
driver.py      the driver, made of these

On Arm a domain has one table, its p2m: the CPUs translate by it as well as the SMMUs, and both cache it, under VMIDs of
their own.
"""

from emu.hypervisor.commands import AwaitUnit
from emu.hypervisor.entries import StoreEntry, read_pte
from emu.hypervisor.smmu.driver import SmmuDriver
from emu.hypervisor.smmu.entries import is_lpae_valid, p2m_remove_pte, p2m_word, p2m_write_pte
from emu.hypervisor.smmu.flush import arm_smmu_iotlb_flush_all
from emu.hypervisor.smmu.p2m_lock import P2mWrite, p2m_force_tlb_flush_sync, p2m_write_lock
from emu.hypervisor.smmu.superpages import p2m_break_superpage
from emu.hypervisor.smmu.tables import (
    chunk_order,
    find_entry,
    need_iommu_flush,
    p2m_free_entry,
    p2m_get_entry,
    replaces_frame,
)

__all__ = [
    "AwaitUnit",
    "P2mWrite",
    "SmmuDriver",
    "StoreEntry",
    "arm_smmu_iotlb_flush_all",
    "chunk_order",
    "find_entry",
    "is_lpae_valid",
    "need_iommu_flush",
    "p2m_break_superpage",
    "p2m_force_tlb_flush_sync",
    "p2m_free_entry",
    "p2m_get_entry",
    "p2m_remove_pte",
    "p2m_word",
    "p2m_write_lock",
    "p2m_write_pte",
    "read_pte",
    "replaces_frame",
]
