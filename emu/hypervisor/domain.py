"""Domains, as far as their IOMMU mappings are concerned."""

from contextlib import AbstractAsyncContextManager, nullcontext
from enum import Enum
from typing import Protocol

import attrs
from sortedcontainers import SortedSet

from emu.cpus import Cpu, SpinLock
from emu.engine import Space, Variable
from emu.errors import ScenarioError
from emu.hypervisor.ops import IommuOps
from emu.iommus.formats import TableFormat
from emu.units import Dfn, Maddr, Mfn

HARDWARE_DOMAIN = 0
DOMID_FIRST_RESERVED = 0x7FF0
DOMID_IO = 0x7FF1
"""The domain that owns what no guest owns, such as devices in quarantine (Xen: include/public/xen.h, DOMID_IO)."""

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


class TableFrames(Protocol):
    """The frames of a domain's page tables, as far as changes of its tables need them: `Pages` keeps them."""

    def add_table(self, domain: "Domain", dfn: Dfn) -> Mfn:
        """Return a zeroed frame for a page table of a domain, in which a dfn is looked up. Without a step."""

    def entry_stored(self, frame: Mfn, cpu: Cpu, domain: "Domain", dfn: Dfn, step: int) -> None:
        """Learn that a CPU stores an entry for a page of a domain into a frame."""


@attrs.define(eq=False)
class Domain:
    """A guest, or the hardware domain, number 0 (Xen: include/xen/sched.h, struct domain).

    Attributes:
        index: its place among the domains of the machine, from 1: by that it has page-table frames of its own.
        format: of its page tables.
        frames: where its page tables come from.
        levels: how many levels of tables it has; the driver decides it.
        pgd: its highest page table; the driver makes it.
        tables: the frames of all its page tables (Xen: x86/iommu.c, hd->arch.pgtables.list).
        is_dying: it is being destroyed.
        mapping_lock: guards its page tables (Xen: vtd/iommu.c, hd->arch.mapping_lock).
        p2m_lock: what its callers may hold around the wrappers.
        known_dfns: every dfn at which a frame was ever entered.
        p2m: which frame each page has, as far as anyone asks.
        installed: the dfns at which each frame was ever entered.
    """

    number: int
    index: int
    format: TableFormat = attrs.field(repr=False)
    ops: "IommuOps[Domain]"
    frames: TableFrames = attrs.field(repr=False)
    levels: int = attrs.field(init=False, default=0)
    pgd: Maddr = attrs.field(init=False, default=Maddr(0))
    tables: list[Mfn] = attrs.field(factory=list)
    is_crashed: bool = False
    is_dying: Variable[bool] = attrs.field(init=False)
    mapping_lock: SpinLock = attrs.field(init=False)
    p2m_lock: SpinLock = attrs.field(init=False)
    known_dfns: "SortedSet[Dfn]" = attrs.field(factory=SortedSet)
    p2m: dict[Dfn, Mfn] = attrs.field(factory=dict)
    installed: "dict[Mfn, SortedSet[Dfn]]" = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.mapping_lock = SpinLock(f"d{self.number}.mapping_lock")
        self.p2m_lock = SpinLock(f"d{self.number}.p2m_lock")
        self.is_dying = Variable(f"d{self.number}.is_dying", value=False)

    def note_leaf(self, dfn: Dfn, mfn: Mfn) -> None:
        """Note that a frame was entered at a page."""
        self.known_dfns.add(dfn)
        self.installed.setdefault(mfn, SortedSet()).add(dfn)

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
        """Return a context in which the caller holds its lock, or nothing where there is none."""
        return nullcontext() if reach is OuterLock.NONE else self.p2m_lock.held(cpu)
