"""The memory map and the options by which the hardware domain's tables are filled (Xen: iommu.c; x86/iommu.c).

Not modelled: that the units begin to translate only afterwards. A device of the domain is translated from the start, as
that of a hardware domain that is made late is.
"""

from enum import Flag, auto

import attrs

from emu.errors import ScenarioError
from emu.units import Dfn

FOUR_GIB = 1 << 20
ONE_MIB = 1 << 8
PAGES_MAX = 1 << 24


class RamType(Flag):
    """What the memory map says of a page (Xen: include/asm-x86/mm.h, page_get_ram_type)."""

    UNKNOWN = auto()
    CONVENTIONAL = auto()
    RESERVED = auto()
    UNUSABLE = auto()


@attrs.frozen
class Boot:
    """Options and memory map.

    Attributes:
        strict: dom0-iommu=strict: the hardware domain may reach its own memory only.
        inclusive: dom0-iommu=map-inclusive; None: for a PV domain.
        reserved: dom0-iommu=map-reserved.
        is_translated: the hardware domain is no PV domain: its guest frame numbers are not machine frame numbers
            (Xen: include/asm-x86/paging.h, paging_mode_translate). That implies strict.
        pages: the loop of arch_iommu_hwdom_init goes over pages 0 to pages - 1.
        types: what the memory map says of a page; one that is not named is conventional memory below 4 GiB, and no
            memory above.
        emulated: pages that Xen uses itself: its image, LAPIC, IO-APICs, MMCFG.
        softirq_interval: softirqs are processed after each page whose index is a multiple of it.
        preempt_interval: arch_iommu_populate_page_table asks after so many pages whether it has to stop.
    """

    strict: bool = False
    inclusive: bool | None = None
    reserved: bool = True
    is_translated: bool = False
    pages: int = attrs.field(default=0)
    types: dict[Dfn, RamType] = attrs.field(factory=dict)
    emulated: frozenset[Dfn] = frozenset()
    softirq_interval: int = attrs.field(default=1 << 20)
    preempt_interval: int = attrs.field(default=256)

    @pages.validator
    def check_pages(self, _: object, pages: object) -> None:
        """Refuse what is no number of pages.

        Raises:
            ScenarioError: naming it.
        """
        if type(pages) is not int or not 0 <= pages <= PAGES_MAX:
            raise ScenarioError(f"Boot(pages={pages!r}): give a number of pages, from 0 to {PAGES_MAX}")

    @softirq_interval.validator
    @preempt_interval.validator
    def check_interval(self, attribute: "attrs.Attribute[int]", interval: object) -> None:
        """Refuse what is no interval.

        Raises:
            ScenarioError: naming it.
        """
        if type(interval) is not int or interval < 1:
            raise ScenarioError(f"Boot({attribute.name}={interval!r}): give a number of pages, at least 1")

    @property
    def is_pv(self) -> bool:
        """Whether the hardware domain is a PV domain."""
        return not self.is_translated

    @property
    def is_strict(self) -> bool:
        """Whether the hardware domain may reach its own memory only."""
        return self.strict or self.is_translated

    @property
    def is_inclusive(self) -> bool:
        """Whether the pages that no other rule names are mapped."""
        return self.is_pv if self.inclusive is None else self.inclusive

    def maps(self, page: Dfn) -> bool:
        """Whether a page is mapped for the hardware domain (Xen: x86/iommu.c, hwdom_iommu_map)."""
        beyond = page >= FOUR_GIB
        type_ = self.types.get(page, RamType.CONVENTIONAL)
        if page in self.emulated or (beyond and page not in self.types) or (not self.is_pv and page < ONE_MIB):
            return False
        if type_ == RamType.UNUSABLE:
            return False
        if type_ == RamType.CONVENTIONAL:
            return not self.is_strict
        if RamType.RESERVED in type_:
            return self.is_inclusive or self.reserved
        return self.is_pv and self.is_inclusive and not beyond
