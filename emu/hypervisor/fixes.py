"""Repairs of code that no revision of the wrappers changed, each named by the commit of Xen that made it.

A revision is one state of the wrappers. The driver below them had defects of its own, found before or after 2018. A
machine's driver has the repairs that Xen had when the seed patch was written; a scenario adds or removes one.
"""

from enum import Enum


class Fix(Enum):
    """A repair: its commit, and the behaviour of the repaired code."""

    XSA_78 = "85c72f9fe7"  # an unmap tells the flush that the entry was present (2013)
    XSA_399 = "d9eca7bb6c"  # a domain id leaves the map before it leaves the bitmap (2022)
    KEEP_ID = "f3401d65d9"  # a domain keeps its id on a unit if a detach there fails (2021)
    FIRST_ERROR = "e7059776f9"  # a flush of several units returns the first error, not the last result (2021)
    OWN_ID = "c5c84e9766"  # non-present IOTLB entries are flushed under the domain's own id (2021)
    DYING = "1ef48c82e7"  # no CPU changes a dying domain's tables, and they are freed only after the last change (2021)

    HWDOM_ORDER = "3389a8dc8c"  # iommu_hwdom_init passes order and permissions in their places (2019)

    PRESENT_BIT = "ba9b5a09da"  # an unmap looks for the present bit in the low half of an AMD entry (2019)
    XSA_275 = "1a7ffe466c"  # an AMD leaf with other permissions counts as changed (2018)
    SIZE = "3a1ba3c2e7"  # an AMD flush of a range, or of all pages, says its size (2011)
    NO_MERGE = "5c08550ff4"  # AMD leaves are not merged into superpages (2018)
    FREE_AFTER_MERGE = "6b4d71d028"  # a merged AMD table is freed after the flush (2014)
    FILL_FIRST = "2a758376f9"  # an AMD table that replaces a superpage is filled before it is entered (2020)
    ABORT = "1b00c16bdf"  # a detached AMD device's requests are aborted, not let through (2019)
    LIVE_ENTRY = "1fa6e9aa36"  # an AMD device that changes its domain keeps a device table entry throughout (2022)
    WHOLE_ENTRY = "3fc44151d8"  # that entry is replaced in one step (2022)
    XSA_347 = "3b055121c5"  # an AMD entry is stored in one step (2020)
    WAIT_FOR_EVER = "e4fee66043"  # a CPU waits for an AMD unit as long as the unit takes (2021)
    HAS_IOMMU = "9ed527dc95"  # the p2m of a domain with an IOMMU flushes its SMMUs (2019)
    FLUSH_BEFORE_FREE = "6718787797"  # the p2m flushes the SMMUs before it frees what an entry held (2019)
    QUEUE_CLEAN = "3a11099edd"  # the lines of an SMMUv3's command queue are written back (2025)

    RING_ROOM = "c4e4434357"  # a CPU waits for room in the command buffer of an AMD unit (2021)


AS_OF_2018 = frozenset({Fix.XSA_78, Fix.HWDOM_ORDER})
"""The repairs that a driver has unless a scenario changes them. That of `iommu_hwdom_init` came some weeks after the
merged patch, whose mistake it mends."""
