"""The capabilities of an AMD-Vi unit, and settings that make its model smaller."""

from typing import ClassVar

import attrs

from emu.iommus.amd.formats import DEPTHS
from emu.iommus.amd.queue import ENTRIES
from emu.iommus.settings import Bounds, setting, superpage_bits_setting


@attrs.frozen
class AmdSettings:
    """The settings of a unit.

    Attributes:
        coherent, write_buffer: walks snoop the CPUs' caches, and no buffer stands before memory.
    """

    coherent: ClassVar[bool] = True
    write_buffer: ClassVar[bool] = False

    levels: int = setting(4, "how many levels the tables of a domain have from the start", bounds=Bounds(*DEPTHS))
    np_cache: bool = setting(
        False, "NpCache: non-present entries are cached, so software must invalidate after making one present"
    )
    queue_entries: int = setting(
        ENTRIES, f"slots of the command buffer; fewer than {ENTRIES} are not architectural", bounds=Bounds(2, ENTRIES)
    )
    iotlb_entries: int = setting(0, "size of the concrete IOTLB; 0: as many as come", bounds=Bounds(0, 4096))
    walk_caches: bool = setting(
        False,
        "units cache table entries, and a walk may start at one of them instead of at the root table; what may be used "
        "is the same",
    )
    synchronous: bool = setting(
        False,
        "not architectural: commands are executed in the step that posts them, and a request that had to be drained "
        "begins again instead",
    )
    walk_at_once: bool = setting(False, "not architectural: a walk is one step")
    superpage_bits: int = superpage_bits_setting()


REFUSED = {
    "coherent": "its walks always snoop the CPUs' caches",
    "write_buffer": "it sees every store at once",
    "caching_mode": "it caches non-present entries with np_cache=true",
    "drain": "a completed wait has always drained the requests before it",
}
"""Settings of other vendors that these units lack, each with the reason."""
