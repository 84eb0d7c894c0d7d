"""The state of a VT-d unit: its tables, caches, requests and queue."""

from emu.engine import Trace
from emu.engine.execution import ReadRecorder
from emu.iommus.counters import Counters
from emu.iommus.formats import TableFormat
from emu.iommus.iotlb import Iotlb
from emu.iommus.ledger import Ledger
from emu.iommus.requests import Request, Requests, TableRead
from emu.iommus.vtd.contexts import ContextCache
from emu.iommus.vtd.formats import vtd_format
from emu.iommus.vtd.queue import InvalidationQueue
from emu.iommus.vtd.settings import VtdSettings
from emu.iommus.walk_cache import WalkCache
from emu.memory import Memory
from emu.units import frame_address


class VtdState:
    """The state of a unit, with one root table and one invalidation queue of its own.

    Attributes:
        sources: the devices behind it, by their source-ids.
        counters: of the queue, of register accesses and of the IOTLB.
    """

    def __init__(self, name: str, settings: VtdSettings, memory: Memory, trace: Trace, recorder: ReadRecorder) -> None:
        self.name = name
        self.format: TableFormat = vtd_format(settings.superpage_bits)
        self.sources: list[int] = []
        self.settings = settings
        self.memory = memory
        self.trace = trace
        self.ledger = Ledger(name, memory, self.format, settings.caching_mode, recorder)
        self.contexts = ContextCache(name, memory, frame_address(memory.allocate_table()), settings.caching_mode)
        self.counters = Counters()
        self.iotlb = Iotlb(name, settings.iotlb_entries or None, self.format, counters=self.counters)
        self.requests = Requests(name)
        self.walk_cache = WalkCache(self.iotlb, memory, self.is_void) if settings.walk_caches else None
        ring = frame_address(memory.allocate_data())
        self.queue = InvalidationQueue(name, memory, ring, settings.queue_entries, counters=self.counters)

    def is_void(self, request: Request) -> bool:
        """Whether a walk may not fill the IOTLB any more (section 6.5.3.3).

        A walk that used a replaced context entry is voided by an IOTLB invalidation that comes after the invalidation
        of that context entry (section 6.2.2.1).
        """
        return self.requests.is_void(request, self.was_replaced)

    def was_replaced(self, request: Request, read: TableRead, step: int) -> bool:
        """Whether a newer value of a word was visible up to a step; a context entry must also be dropped by then."""
        if read.level == self.format.device_level:
            return self.contexts.had_dropped(request.source_id, request.tag, read, step)
        return read.was_replaced(self.memory, step)
