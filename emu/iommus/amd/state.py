"""The state of an AMD-Vi unit: its tables, caches, requests and command buffer."""

from collections.abc import Iterator

from emu.engine import Trace
from emu.engine.execution import ReadRecorder
from emu.iommus.amd.device_table import TABLE_FRAMES, DeviceTable
from emu.iommus.amd.formats import amd_format
from emu.iommus.amd.queue import CommandBuffer
from emu.iommus.amd.settings import AmdSettings
from emu.iommus.counters import Counters
from emu.iommus.formats import TableFormat
from emu.iommus.iotlb import Iotlb
from emu.iommus.ledger import Ledger
from emu.iommus.requests import Request, Requests, TableRead
from emu.iommus.walk_cache import WalkCache
from emu.memory import Memory
from emu.units import frame_address


class AmdState:
    """The state of a unit, with one device table and one command buffer of its own.

    Attributes:
        sources: the devices behind it, by their device ids.
        counters: of the command buffer, of register accesses and of the IOTLB.
    """

    def __init__(self, name: str, settings: AmdSettings, memory: Memory, trace: Trace, recorder: ReadRecorder) -> None:
        self.name = name
        self.format: TableFormat = amd_format(settings.superpage_bits)
        self.sources: list[int] = []
        self.settings = settings
        self.memory = memory
        self.trace = trace
        self.ledger = Ledger(name, memory, self.format, settings.np_cache, recorder)
        first, *_ = [memory.allocate_table() for _ in range(TABLE_FRAMES)]
        self.device_table = DeviceTable(name, memory, frame_address(first))
        self.counters = counters = Counters()
        self.iotlb = Iotlb(name, settings.iotlb_entries or None, self.format, is_by_tag=True, counters=counters)
        self.requests = Requests(name)
        self.walk_cache = WalkCache(self.iotlb, memory, self.is_void) if settings.walk_caches else None
        ring, registers = (frame_address(memory.allocate_data()) for _ in range(2))
        self.queue = CommandBuffer(name, memory, ring, settings.queue_entries, status=registers, counters=counters)

    def is_void(self, request: Request) -> bool:
        """Whether a walk may not fill the IOTLB any more: an invalidation has dropped a word that it had read."""
        if self.device_table.is_void(request, self.format.device_level):
            return True
        if self.requests.has_dropped_start(request) and self.is_from_another_root(request):
            return True
        return self.requests.is_void(request, self.was_replaced)

    def is_from_another_root(self, request: Request) -> bool:
        """Whether a walk started at a cached entry below another root than the device's own entry names.

        Devices find what is cached under one domain id, whatever the roots are. So once the entry has been dropped, a
        new walk need not find the same, though no word was replaced.
        """
        tables, highest = request.tables, next(self.table_reads(request), None)
        if tables is None or highest is None:
            return False
        return self.format.table_of(highest.address, request.dfn, highest.level) != tables.root

    def table_reads(self, request: Request) -> Iterator[TableRead]:
        """Yield the words of page tables that a walk has read, the highest first."""
        return (read for read in request.reads if read.level != self.format.device_level)

    def was_replaced(self, request: Request, read: TableRead, step: int) -> bool:
        """Whether a newer value of a page table's word was visible up to a step.

        An invalidation of pages does not void a walk by the device's own entry.
        """
        return read.level != self.format.device_level and read.was_replaced(self.memory, step)
