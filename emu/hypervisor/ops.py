"""Names that every revision shares: flush types, result codes and the driver's hooks."""

from enum import IntEnum, IntFlag
from typing import Protocol, TypeVar

from emu.cpus import Cpu, PerCpu
from emu.errors import ModelAssertionError
from emu.hypervisor.faults import Faults
from emu.hypervisor.fixes import Fix
from emu.units import Dfn, Mfn

OK = 0
ENOENT = -2
ENOMEM = -12
EFAULT = -14
ENODEV = -19
EINVAL = -22
ENOSPC = -28
ESRCH = -3
EILSEQ = -84
ERESTART = -85
ETIMEDOUT = -110

RESULT_NAMES = {
    OK: "ok",
    ENOENT: "-ENOENT",
    ENOMEM: "-ENOMEM",
    EFAULT: "-EFAULT",
    ENODEV: "-ENODEV",
    EINVAL: "-EINVAL",
    ENOSPC: "-ENOSPC",
    ETIMEDOUT: "-ETIMEDOUT",
    ESRCH: "-ESRCH",
    EILSEQ: "-EILSEQ",
    ERESTART: "-ERESTART",
}
"""Results of Xen's functions: 0 or a negative errno."""

INVALID_DFN = Dfn((1 << 64) - 1)

iommu_dont_flush_iotlb = PerCpu("iommu_dont_flush_iotlb", initial=False)
"""While it is set on a CPU, wrappers that read it do not flush; the code that set it flushes later."""


def unsigned_int(value: int) -> int:
    """Return a number as a parameter of C's type `unsigned int` takes it: its low 32 bits."""
    return value & 0xFFFF_FFFF


def xen_assert(debug_build: bool, condition: bool, text: str) -> None:
    """Make an assertion of Xen's, which a debug build checks (Xen: include/xen/lib.h, ASSERT).

    Raises:
        ModelAssertionError: if it does not hold in a debug build.
    """
    if debug_build and not condition:
        raise ModelAssertionError(f"ASSERT({text})")


def xen_bug_on(condition: bool, text: str) -> None:
    """Stop where Xen stops, in every build, if a condition holds (Xen: include/xen/lib.h, BUG_ON).

    Raises:
        ModelAssertionError: if it holds.
    """
    if condition:
        raise ModelAssertionError(f"BUG_ON({text})")


class DomainIsDyingError(Exception):
    """A hook was asked to change a page of a dying domain. It changes nothing and reports success."""


class FlushType(IntEnum):
    """The flush that a change of an entry requires; the larger covers the smaller (seed patch: enum iommu_flush_type).

    Later revisions of Xen combine flags, `added` and `modified`, with a bitwise or. A flush for `modified` includes one
    for `added`, so the maximum says the same.
    """

    NONE = 0
    ADDED = 1
    MODIFIED = 2


class MapFlags(IntFlag):
    """The permissions of a mapping (Xen: include/xen/iommu.h, IOMMUF_readable and IOMMUF_writable)."""

    READABLE = 1
    WRITABLE = 2


READ_WRITE = MapFlags.READABLE | MapFlags.WRITABLE


DomainT_contra = TypeVar("DomainT_contra", contravariant=True)


class IommuOps(Protocol[DomainT_contra]):
    """A driver's hooks (Xen: include/xen/iommu.h, struct iommu_ops).

    Those of a revision with superpages take a last parameter, `page_order`: they map or unmap 2^page_order pages. In
    Xen the order stands in the flags of a map, and is a parameter of an unmap.
    """

    async def map_page(
        self, cpu: Cpu, domain: DomainT_contra, dfn: Dfn, mfn: Mfn, flags: MapFlags
    ) -> tuple[int, FlushType]:
        """Make an entry; return the result and the flush required."""

    async def unmap_page(self, cpu: Cpu, domain: DomainT_contra, dfn: Dfn) -> tuple[int, FlushType]:
        """Clear an entry; return the result and the flush required: NONE in revisions that do not report it."""

    async def iotlb_flush(
        self, cpu: Cpu, domain: DomainT_contra, dfn: Dfn, page_count: int, flush_type: FlushType
    ) -> int:
        """Flush a range as far as the type requires; return the result."""

    async def iotlb_flush_all(self, cpu: Cpu, domain: DomainT_contra) -> int:
        """Flush all cached entries of a domain; return the result."""


class WrapperOps(IommuOps[DomainT_contra], Protocol[DomainT_contra]):
    """The hooks as the wrappers find them in a `Domain`: an order is passed on to a revision whose hooks take one.

    A hook that a driver lacks is NULL in Xen: a wrapper asks whether it is there before it calls it.
    """

    @property
    def has_iotlb_flush(self) -> bool:
        """Whether the driver has the hook `iotlb_flush`."""

    @property
    def has_iotlb_flush_all(self) -> bool:
        """Whether the driver has the hook `iotlb_flush_all`."""

    @property
    def fixes(self) -> set[Fix]:
        """The repairs that the code has."""

    @property
    def faults(self) -> Faults:
        """The faults that the strategy may inject."""

    async def hwdom_init(self, cpu: Cpu, domain: DomainT_contra) -> None:
        """Fill the hardware domain's tables, as the vendor's hook does by arch_iommu_hwdom_init."""

    async def map_page(
        self, cpu: Cpu, domain: DomainT_contra, dfn: Dfn, mfn: Mfn, flags: MapFlags, page_order: int = 0
    ) -> tuple[int, FlushType]:
        """Make an entry that maps 2^page_order pages; return the result and the flush required."""

    async def unmap_page(
        self, cpu: Cpu, domain: DomainT_contra, dfn: Dfn, page_order: int = 0
    ) -> tuple[int, FlushType]:
        """Clear the entry of 2^page_order pages; return the result and the flush required."""
