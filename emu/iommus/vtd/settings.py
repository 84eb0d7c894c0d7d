"""The capabilities of a VT-d unit, and settings that make its model smaller."""

import attrs

from emu.iommus.settings import Bounds, setting, superpage_bits_setting
from emu.iommus.vtd.formats import DEPTHS
from emu.iommus.vtd.queue import ENTRIES


@attrs.frozen
class VtdSettings:
    """The settings of a unit. The fields below `superpage_bits` are not parameters of a machine.

    Attributes:
        mamv: CAP.MAMV: the largest address mask of a page-selective invalidation.
        page_selective: CAP.PSI: page-selective invalidation is supported.
        snoop_control: ECAP.SC: leaves may carry SNP.
    """

    levels: int = setting(4, "CAP.SAGAW: how many levels tables have", bounds=Bounds(*DEPTHS))
    coherent: bool = setting(True, "ECAP.C: walks snoop the CPUs' caches")
    caching_mode: bool = setting(
        False, "CAP.CM: non-present entries are cached, so software must invalidate after making one present"
    )
    write_buffer: bool = setting(
        False, "CAP.RWBF: stores to tables may wait in the chipset until software asks for a flush"
    )
    drain: bool = setting(
        True,
        "CAP.DRD and DWD: an invalidation that asks for it completes only when the requests that were translated "
        "before it have been committed (section 6.5.4)",
    )
    queue_entries: int = setting(
        ENTRIES,
        f"slots of the invalidation queue; fewer than {ENTRIES} are not architectural",
        bounds=Bounds(2, ENTRIES),
    )
    iotlb_entries: int = setting(0, "size of the concrete IOTLB; 0: as many as come", bounds=Bounds(0, 4096))
    walk_caches: bool = setting(
        False,
        "units cache table entries, and a walk may start at one of them instead of at the root table (section 6.2.5); "
        "what may be used is the same",
    )
    synchronous: bool = setting(
        False,
        "not architectural: descriptors are executed in the step that posts them, and a request that had to be drained "
        "begins again instead",
    )
    walk_at_once: bool = setting(False, "not architectural: a walk is one step")
    superpage_bits: int = superpage_bits_setting()
    mamv: int = attrs.field(default=18, validator=[attrs.validators.ge(0), attrs.validators.le(52)])
    page_selective: bool = True
    snoop_control: bool = True
