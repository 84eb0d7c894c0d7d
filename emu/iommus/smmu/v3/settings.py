"""What an SMMUv3 can do, and settings that make its model smaller."""

from typing import ClassVar

import attrs

from emu.iommus.settings import Bounds, setting, superpage_bits_setting
from emu.iommus.smmu.formats import IPA_BITS
from emu.iommus.smmu.v3.queue import ENTRIES


@attrs.frozen
class Smmuv3Settings:
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
    coherent: bool = setting(
        True, "IDR0.COHACC: walks, and reads of the stream table and the command queue, snoop the CPUs' caches"
    )
    aarch32: bool = setting(
        False,
        "IDR0.TTF: the unit walks tables of AArch32, too; else a stream table entry that names such tables aborts",
    )
    queue_entries: int = setting(
        ENTRIES, f"slots of the command queue; {ENTRIES} are a page", bounds=Bounds(2, ENTRIES)
    )
    iotlb_entries: int = setting(0, "size of the concrete TLB; 0: as many as come", bounds=Bounds(0, 4096))
    walk_caches: bool = setting(
        False,
        "units cache table entries, and a walk may start at one of them instead of at the highest table; what may be "
        "used is the same",
    )
    synchronous: bool = setting(
        False,
        "not architectural: commands are executed in the step that posts them, and a request that had to be drained "
        "begins again instead",
    )
    walk_at_once: bool = setting(
        False, "not architectural: a walk is one step, and so is finding the tables of a stream: no entry is seen torn"
    )
    superpage_bits: int = superpage_bits_setting()


REFUSED = {
    "levels": "ipa_bits says how many levels tables have",
    "write_buffer": "no buffer stands between its CPUs and memory",
    "caching_mode": "it never caches a fault of a page",
    "np_cache": "it never caches a fault of a page",
    "drain": "a completed CMD_SYNC has always drained the requests before it",
}
"""Settings of other vendors that these units lack, each with the reason."""
