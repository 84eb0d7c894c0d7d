"""What an SMMUv2 can do, and settings that make its model smaller."""

from typing import ClassVar

import attrs

from emu.iommus.settings import Bounds, setting, superpage_bits_setting
from emu.iommus.smmu.formats import IPA_BITS


@attrs.frozen
class SmmuSettings:
    """The settings of a unit.

    Attributes:
        write_buffer: no buffer stands before memory.
    """

    write_buffer: ClassVar[bool] = False

    ipa_bits: int = setting(
        40,
        "how wide the addresses are that tables translate: up to 43 bits by three levels, whose highest are up to 16 "
        "tables side by side, and above by four",
        bounds=Bounds(*IPA_BITS),
    )
    coherent: bool = setting(True, "IDR0.CTTW: walks snoop the CPUs' caches")
    drain: bool = setting(
        True,
        "a TLB synchronisation completes only when the requests that were translated before it have been committed; "
        "the public text of the architecture leaves it open",
    )
    iotlb_entries: int = setting(0, "size of the concrete IOTLB; 0: as many as come", bounds=Bounds(0, 4096))
    walk_caches: bool = setting(
        False,
        "units cache table entries, and a walk may start at one of them instead of at the highest table; what may be "
        "used is the same",
    )
    synchronous: bool = setting(
        False,
        "not architectural: an invalidation is executed in the step that asks for it, and a request that had to be "
        "drained begins again instead",
    )
    walk_at_once: bool = setting(False, "not architectural: a walk is one step")
    superpage_bits: int = superpage_bits_setting()


REFUSED = {
    "levels": "ipa_bits says how many levels tables have",
    "write_buffer": "no buffer stands between its CPUs and memory",
    "caching_mode": "it never caches a fault",
    "np_cache": "it never caches a fault",
    "queue_entries": "it has no queue: software asks for invalidations by registers",
}
"""Settings of other vendors that these units lack, each with the reason."""
