"""Domains, as far as their IOMMU mappings are concerned."""

from contextlib import AbstractAsyncContextManager, nullcontext
from enum import Enum
from typing import TYPE_CHECKING

import attrs
from sortedcontainers import SortedSet

from emu.cpus import Cpu, SpinLock
from emu.engine import Space, Variable
from emu.errors import ScenarioError
from emu.hypervisor.bitmaps import Bitmap
from emu.hypervisor.ops import IommuOps
from emu.units import Dfn, Maddr, Mfn, frame_address

if TYPE_CHECKING:
    from emu.hypervisor.pages import Pages

HARDWARE_DOMAIN = 0
DOMID_FIRST_RESERVED = 0x7FF0
DOMID_IO = 0x7FF1
"""The domain that owns what no guest does; devices in quarantine are assigned to it (Xen: dom_io)."""

INSTALLED: Space = ("installed",)
"""In which pages a frame was ever entered, as a shared object, numbered by mfn."""


def check_cast(cpu: object = ..., domain: object = ...) -> None:
    """Refuse who is no CPU, and what is no domain, where one is given.

    Raises:
        ScenarioError: naming what was given instead.
    """
    if cpu is not ... and not isinstance(cpu, Cpu):
        raise ScenarioError(f"{cpu!r} is no CPU: pass on the one that the function was given")
    if domain is not ... and not isinstance(domain, Domain):
        raise ScenarioError(f"{domain!r} is no domain: pass what m.domain(...) returned")


class OuterLock(Enum):
    """How far the lock of a wrapper's caller reaches (the p2m lock, the grant table's, the page type's)."""

    NONE = "none"
    PER_CALL = "per-call"  # each call is under the lock; a deferred flush comes after it was dropped
    ACROSS_FLUSH = "across-flush"  # the lock is held until the flush has returned


@attrs.define(eq=False)
class Domain:
    """A guest, or the hardware domain (number 0).

    Attributes:
        index: its place among the domains of the machine, from 1: by that it has page-table frames of its own.
        levels: how many levels of tables it has.
        pgd: its highest page table.
        tables: the frames of all its page tables (Xen: arch.pgtables.list).
        pages: the frames of the machine.
        is_dying: it is being destroyed.
        iommu_bitmap: the units that translate for it, by their index.
        mapping_lock: guards its page tables (Xen: hd->arch.mapping_lock).
        p2m_lock: what its callers may hold around the wrappers.
        known_dfns: every dfn at which a frame was ever entered.
        p2m: which frame each page has, as far as anyone asks.
        installed: the dfns at which each frame was ever entered.
    """

    number: int
    index: int
    levels: int
    ops: IommuOps
    pages: "Pages" = attrs.field(repr=False)
    pgd: Maddr = attrs.field(init=False)
    tables: list[Mfn] = attrs.field(factory=list)
    is_crashed: bool = False
    is_dying: Variable[bool] = attrs.field(init=False)
    mapping_lock: SpinLock = attrs.field(init=False)
    p2m_lock: SpinLock = attrs.field(init=False)
    iommu_bitmap: Bitmap = attrs.field(init=False)
    known_dfns: "SortedSet[Dfn]" = attrs.field(factory=SortedSet)
    p2m: dict[Dfn, Mfn] = attrs.field(factory=dict)
    installed: "dict[Mfn, SortedSet[Dfn]]" = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.pgd = frame_address(self.pages.add_table(self, Dfn(0)))
        self.mapping_lock = SpinLock(f"d{self.number}.mapping_lock")
        self.p2m_lock = SpinLock(f"d{self.number}.p2m_lock")
        self.is_dying = Variable(f"d{self.number}.is_dying", value=False)
        self.iommu_bitmap = Bitmap(f"d{self.number}.iommu_bitmap")

    def note_leaf(self, dfn: Dfn, mfn: Mfn) -> None:
        """Note that a frame was entered at a page."""
        self.known_dfns.add(dfn)
        self.installed.setdefault(mfn, SortedSet()).add(dfn)

    @property
    def is_hardware_domain(self) -> bool:
        """Whether a failure must not crash it (Xen: is_hardware_domain)."""
        return self.number == HARDWARE_DOMAIN

    def crash(self, cpu: Cpu) -> None:
        """Mark the domain as crashed (Xen: domain_crash). Its devices run on until they are taken away."""
        if not self.is_crashed:
            self.is_crashed = True
            cpu.note("domain.crash", domain=self.number)

    def outer_lock(self, cpu: Cpu, reach: OuterLock) -> AbstractAsyncContextManager[None]:
        """Return a context in which the caller holds its lock, or nothing where there is none."""
        return nullcontext() if reach is OuterLock.NONE else self.p2m_lock.held(cpu)
