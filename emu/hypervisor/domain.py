"""Domains, with their page tables, locks and mappings."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from enum import Enum
from typing import Protocol

import attrs
from sortedcontainers import SortedSet

from emu.cpus import Cpu, SpinLock
from emu.cpus.tlb import CpuTlb
from emu.engine import Access, Space, Variable
from emu.errors import ScenarioError
from emu.hypervisor.boot import Boot
from emu.hypervisor.ops import READ_WRITE, MapFlags, WrapperOps
from emu.hypervisor.page_list import PageList
from emu.hypervisor.places import Half, Place, Stored
from emu.iommus.formats import TableFormat
from emu.units import Dfn, Maddr, Mfn, offset

HARDWARE_DOMAIN = 0
DOMID_FIRST_RESERVED = 0x7FF0
DOMID_IO = 0x7FF1
"""The domain that owns things that no guest owns, such as quarantined devices (Xen: include/public/xen.h, DOMID_IO)."""

EVER_MAPPED: Space = ("installed",)
"""The space of `Domain.ever_mapped`: one object for each frame, numbered by mfn."""


def check_types(cpu: object = ..., domain: object = ...) -> None:
    """Refuse an argument that is not a CPU, or not a domain. An argument that was left out is not checked.

    Raises:
        ScenarioError: naming an argument of another type.
    """
    if cpu is not ... and not isinstance(cpu, Cpu):
        raise ScenarioError(f"{cpu!r} is no CPU: pass on the one that the function was given")
    if domain is not ... and not isinstance(domain, Domain):
        raise ScenarioError(f"{domain!r} is no domain: pass what m.domain(...) returned")


class OuterLock(Enum):
    """How long the caller of a wrapper holds its own lock (the p2m lock, the grant table's, the page type's)."""

    NONE = "none"
    PER_CALL = "per-call"  # during each call; a deferred flush comes after the lock was released
    ACROSS_FLUSH = "across-flush"  # until the flush has returned


class IommuUse(Enum):
    """How the IOMMU is used for a domain, which decides whether the hooks do anything."""

    SEPARATE = "separate"  # by tables of its own, which the hooks change
    SHARED = "shared"  # by the tables of the CPUs (EPT), which others change: the hooks return at once
    PASSTHROUGH = "passthrough"  # not at all for the hardware domain's devices: VT-d's hooks return at once
    OFF = "off"  # not at all: the wrappers return at once


class EntryPoints(Protocol):
    """The callers' entry points, for code of Xen's that calls them. Implemented by `Calls`."""

    async def map(
        self, cpu: Cpu, domain: "Domain", dfn: Dfn, mfn: Mfn, *, page_order: int = 0, flags: MapFlags = READ_WRITE
    ) -> int:
        """Map 2^page_order pages; return 0 or a negative errno."""

    async def unmap(self, cpu: Cpu, domain: "Domain", dfn: Dfn, *, page_order: int = 0) -> int:
        """Unmap 2^page_order pages; return 0 or a negative errno."""


class TableFrames(Protocol):
    """Gives out the frames of page tables, and notes the entries stored into them. Implemented by `Pages`."""

    def add_table(self, domain: "Domain", dfn: Dfn) -> Mfn:
        """Return a zeroed frame for a page table of a domain that translates a dfn. Takes no step."""

    def dfn_of_table(self, frame: Mfn, domain: "Domain") -> Dfn | None:
        """Return a dfn that a table of a domain translates; None if the frame is no table of the domain."""

    def entry_stored(self, frame: Mfn, cpu: Cpu, domain: "Domain", dfn: Dfn, step: int) -> None:
        """Note that a CPU stores an entry for a dfn of a domain into a frame."""

    def leaf_reads(self, mfn: Mfn, domain: "Domain", flags: MapFlags, order: int = 0) -> Iterable[Access]:
        """Return the reads of `leaf_stored`. More flags may add reads, and never take any away."""

    def leaf_stored(
        self, mfn: Mfn, cpu: Cpu, domain: "Domain", dfn: Dfn, flags: MapFlags, step: int, order: int = 0
    ) -> None:
        """Note that a CPU stores a leaf that maps 2^order frames from a dfn of a domain on."""

    def word_reads(self, domain: "Domain", half: Half | None, place: Place) -> Iterable[Access]:
        """Return the reads of `word_stored` for a word at a place, or for a half of it."""

    def word_stored(self, cpu: Cpu, domain: "Domain", place: Place, stored: Stored) -> None:
        """Note that a CPU stores a word of a domain's tables, or a half of it; memory has the word before."""

    def enter_foreign(self, mfn: Mfn, domain: "Domain") -> bool:
        """Return whether a frame belongs to another domain, and then take a reference, before the first step."""

    async def put(self, cpu: Cpu, mfn: Mfn) -> bool:
        """Drop a reference of a frame; return whether it was the last and the frame is free."""

    def page_changed(self, cpu: Cpu, domain: "Domain", dfn: Dfn, step: int) -> None:
        """Note that a CPU's store changes the mapping of a page, while no call is open on the CPU."""


@attrs.define(eq=False)
class Domain:
    """A guest, or the hardware domain, number 0 (Xen: include/xen/sched.h, struct domain).

    Attributes:
        index: its position among the domains of the machine, from 1. It selects the frames of its page tables.
        format: the format of its page tables.
        frames: gives out the frames of its page tables.
        calls: the callers' entry points.
        levels: how many levels its page tables have; set by the driver.
        most_levels: how many levels they can come to have; set by the driver.
        pgd: its highest page table; made by the driver.
        roots: every highest page table that it has had, the oldest first.
        tables: the frames of all its page tables (Xen: x86/iommu.c, hd->arch.pgtables.list).
        is_hvm: its tables begin with few levels and grow, where the driver does that (AMD-Vi).
        maps_all: it may map every frame, as the hardware domain may unless dom0-iommu=strict is set.
        use: how the IOMMU is used for it.
        boot: how the hardware domain's tables are filled.
        page_list: its pages.
        is_torn_down: its tables were given up after an error (Xen: iommu.c, iommu_teardown).
        is_dying: it is being destroyed.
        mapping_lock: guards its page tables (Xen: vtd/iommu.c, hd->arch.mapping_lock).
        p2m_lock: the lock that callers may hold around the wrappers.
        grant_lock: guards its grants (Xen: common/grant_table.c, the write lock of a grant table).
        known_dfns: every dfn at which a frame was ever mapped.
        p2m: the frame at each dfn, for code that moves pages.
        cpu_tlb: what the CPUs have cached of its page tables; None where they do not translate by them.
        tracked_bit: of an entry, the bit that software clears in tables that it goes on to use; 0 where it clears none.
        ever_mapped: the dfns at which each frame was ever mapped.
    """

    number: int
    index: int
    format: TableFormat = attrs.field(repr=False)
    ops: "WrapperOps[Domain]"
    frames: TableFrames = attrs.field(repr=False)
    calls: EntryPoints = attrs.field(repr=False)
    levels: int = attrs.field(init=False, default=0)
    most_levels: int = attrs.field(init=False, default=0)
    pgd: Maddr = attrs.field(init=False, default=Maddr(0))
    roots: list[Maddr] = attrs.field(init=False, factory=list)
    tables: list[Mfn] = attrs.field(factory=list)
    is_crashed: bool = False
    maps_all: bool = False
    is_hvm: bool = False
    use: IommuUse = IommuUse.SEPARATE
    boot: Boot = attrs.field(factory=Boot, repr=False)
    page_list: PageList = attrs.field(init=False, repr=False)
    is_torn_down: Variable[bool] = attrs.field(init=False, repr=False)
    is_dying: Variable[bool] = attrs.field(init=False)
    mapping_lock: SpinLock = attrs.field(init=False)
    p2m_lock: SpinLock = attrs.field(init=False)
    grant_lock: SpinLock = attrs.field(init=False)
    known_dfns: "SortedSet[Dfn]" = attrs.field(factory=SortedSet)
    p2m: dict[Dfn, Mfn] = attrs.field(factory=dict)
    ever_mapped: "dict[Mfn, SortedSet[Dfn]]" = attrs.field(factory=dict)
    cpu_tlb: CpuTlb | None = attrs.field(init=False, default=None)
    tracked_bit: int = attrs.field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.mapping_lock = SpinLock(f"d{self.number}.mapping_lock")
        self.p2m_lock = SpinLock(f"d{self.number}.p2m_lock")
        self.grant_lock = SpinLock(f"d{self.number}.grant_lock")
        self.is_dying = Variable(f"d{self.number}.is_dying", value=False)
        self.is_torn_down = Variable(f"d{self.number}.is_torn_down", value=False)
        self.page_list = PageList(f"d{self.number}")

    def enter_root(self, root: Maddr) -> None:
        """Let a table be the highest from now on."""
        self.pgd = root
        self.roots.append(root)

    def note_leaf(self, dfn: Dfn, mfn: Mfn, order: int = 0) -> None:
        """Note that 2^order frames were mapped from a dfn on."""
        for i in range(1 << order):
            self.known_dfns.add(offset(dfn, i))
            self.ever_mapped.setdefault(Mfn(mfn + i), SortedSet()).add(offset(dfn, i))

    @property
    def has_iommu(self) -> bool:
        """Whether the IOMMU is used for it (Xen: iommu.c, iommu_enabled and platform_ops)."""
        return self.use is not IommuUse.OFF

    @property
    def uses_hap_pt(self) -> bool:
        """Whether its tables are those by which CPUs translate (Xen: include/asm-x86/iommu.h, iommu_use_hap_pt)."""
        return self.use is IommuUse.SHARED

    @property
    def is_passthrough(self) -> bool:
        """Whether its devices are not translated (Xen: iommu.c, iommu_hwdom_passthrough, for the hardware domain)."""
        return self.use is IommuUse.PASSTHROUGH

    @property
    def need_sync(self) -> bool:
        """Whether the hardware domain has tables of its own that hold its own memory only (Xen: iommu.c, need_sync)."""
        return self.boot.is_strict and not self.uses_hap_pt and self.cpu_tlb is None

    @property
    def is_direct_mapped(self) -> bool:
        """Whether each page of its p2m has the frame of its own number (Xen: asm-arm/domain.h)."""
        return self.is_hardware_domain

    @property
    def is_hardware_domain(self) -> bool:
        """Whether it is the domain that no failure crashes (Xen: include/xen/sched.h, is_hardware_domain)."""
        return self.number == HARDWARE_DOMAIN

    def crash(self, cpu: Cpu) -> None:
        """Mark the domain as crashed; its devices run on until detached (Xen: common/domain.c, __domain_crash)."""
        if not self.is_crashed:
            self.is_crashed = True
            cpu.note("domain.crash", domain=self.number)

    def outer_lock(self, cpu: Cpu, reach: OuterLock) -> AbstractAsyncContextManager[None]:
        """Return a context that holds the caller's lock, or no lock if `reach` is NONE."""
        return nullcontext() if reach is OuterLock.NONE else self.p2m_lock.held(cpu)
