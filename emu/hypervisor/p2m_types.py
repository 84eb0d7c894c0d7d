"""The types of pages in a domain's p2m on Arm (Xen: asm-arm/p2m.h, p2m_type_t)."""

from enum import IntEnum

from emu.hypervisor.ops import READ_WRITE, MapFlags


class P2mType(IntEnum):
    """The type of a page, as the entry of a p2m has it in bits that hardware ignores."""

    INVALID = 0
    RAM_RW = 1
    RAM_RO = 2
    MMIO_DIRECT_DEV = 3
    MMIO_DIRECT_NC = 4
    MMIO_DIRECT_C = 5
    MAP_FOREIGN_RW = 6
    MAP_FOREIGN_RO = 7
    GRANT_MAP_RW = 8
    GRANT_MAP_RO = 9
    IOMMU_MAP_RW = 10
    IOMMU_MAP_RO = 11

    @property
    def flags(self) -> MapFlags:
        """The permissions that the type gives (Xen: arch/arm/p2m.c, p2m_set_permission)."""
        if self is P2mType.INVALID:
            return MapFlags(0)
        return MapFlags.READABLE if self in READ_ONLY else READ_WRITE

    @property
    def is_foreign(self) -> bool:
        """Whether the entry holds a reference to its frame, which belongs to another domain."""
        return self in {P2mType.MAP_FOREIGN_RW, P2mType.MAP_FOREIGN_RO}

    @property
    def is_executable(self) -> bool:
        """Whether CPUs may execute from the page."""
        return self in {P2mType.RAM_RW, P2mType.RAM_RO}


READ_ONLY = {P2mType.RAM_RO, P2mType.MAP_FOREIGN_RO, P2mType.GRANT_MAP_RO, P2mType.IOMMU_MAP_RO}

RAM = frozenset(
    {
        P2mType.RAM_RW,
        P2mType.RAM_RO,
        P2mType.MAP_FOREIGN_RW,
        P2mType.MAP_FOREIGN_RO,
        P2mType.GRANT_MAP_RW,
        P2mType.GRANT_MAP_RO,
    }
)
"""The types of pages that are memory of some guest (Xen: asm-arm/p2m.h, p2m_is_any_ram)."""
