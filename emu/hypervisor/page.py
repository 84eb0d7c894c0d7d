"""One frame: its owner, references and grants; and the protocols of the checks that judge it."""

from collections.abc import Iterable
from typing import Protocol

import attrs

from emu.cpus import Cpu
from emu.engine import Access
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import MapFlags
from emu.hypervisor.places import Half, Place, Stored
from emu.memory import TABLE_FRAMES
from emu.units import Dfn, Mfn


@attrs.define(eq=False)
class Page:
    """One frame (Xen: arch/x86/include/asm/mm.h, struct page_info).

    Attributes:
        owner: the domain that owns it; None while it is free.
        references: how many references it has; at 0 it is free.
        generation: how often it was given to an owner.
        table: the domain whose page table it is, or was until it was freed, and a dfn that the table translates.
        grants: the permissions that the owner has given other domains, by their numbers.
    """

    mfn: Mfn
    owner: Domain | None
    references: int = 1
    generation: int = 1
    table: tuple[Domain, Dfn] | None = None
    grants: dict[int, MapFlags] = attrs.field(factory=dict)

    @property
    def is_table(self) -> bool:
        """Whether it is a page table, or will be once a domain gets it: tables have a region of their own."""
        if self.generation == 0:
            return self.mfn in TABLE_FRAMES
        return self.table is not None and self.owner is not None

    def let_map(self, domain: Domain, flags: MapFlags) -> None:
        """Let a domain map the frame with these flags, too. Takes no step."""
        self.grants[domain.number] = self.grants.get(domain.number, MapFlags(0)) | flags


class OwnerJudge(Protocol):
    """Judges whether a frame is out of reach when it is freed or gets a new owner. Implemented by the checks."""

    def reads_of_page(self, page: Page) -> Iterable[Access]:
        """Return the reads of `owner_changes`."""

    def owner_changes(self, page: Page, cpu: Cpu, call: str, step: int) -> None:
        """Judge a frame at the step that freed it, or gave it to `page.owner`."""

    def entry_stored(self, page: Page, cpu: Cpu, domain: Domain, dfn: Dfn, step: int) -> None:
        """Note that a CPU has stored an entry for a dfn into a frame that is no longer a table of the domain."""

    def page_changed(self, cpu: Cpu, domain: Domain, dfn: Dfn, step: int) -> None:
        """Note that a CPU's store has changed the mapping of a page, while no call was open on the CPU."""

    def overrun(self, cpu: Cpu, array: str, count: int) -> None:
        """Note that a CPU has stored `count` references into an array with less room."""


class AccessJudge(Protocol):
    """Judges whether a domain may map a frame. Implemented by the checks."""

    def leaf_reads(self, page: Page, domain: Domain, flags: MapFlags) -> Iterable[Access]:
        """Return the reads of `leaf_stored`. More flags may add reads, and never take any away."""

    def leaf_stored(self, page: Page, cpu: Cpu, domain: Domain, dfn: Dfn, flags: MapFlags, step: int) -> None:
        """Judge a leaf that maps a frame at a dfn of a domain, at the step of its store."""

    def withdrawal_reads(self, page: Page, domain: Domain) -> Iterable[Access]:
        """Return the reads of `withdrawn`."""

    def withdrawn(self, page: Page, cpu: Cpu, domain: Domain, step: int) -> None:
        """Judge a frame at the step from which a domain may not map it any more."""


class WordJudge(Protocol):
    """Judges words of page tables that are stored. Implemented by the checks."""

    def word_reads(self, domain: Domain, half: Half | None, place: Place) -> Iterable[Access]:
        """Return the reads of `word_stored` for a word at a place, or for a half of it."""

    def word_stored(self, cpu: Cpu, domain: Domain, place: Place, stored: Stored) -> None:
        """Judge a word of a domain's tables, or a half of it, at the step of its store; memory has the word before."""
