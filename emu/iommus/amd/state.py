"""The state of an AMD-Vi unit: its tables, caches, requests and command buffer."""

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
from emu.iommus.requests import Requests
from emu.iommus.unit_by_entry import UnitByEntry
from emu.iommus.walk_cache import WalkCache
from emu.memory import Memory
from emu.units import frame_address


class AmdState(UnitByEntry):
    """The state of a unit, with one device table and one command buffer of its own.

    Attributes:
        sources: the devices behind it, by their device ids.
        counters: of the command buffer, of register accesses and of the IOTLB.
    """

    def __init__(self, name: str, settings: AmdSettings, memory: Memory, trace: Trace, recorder: ReadRecorder) -> None:
        self.name = name
        self.format: TableFormat = amd_format(settings.superpage_bits)
        self.sources: list[int] = []
        self.settings: AmdSettings = settings
        self.memory = memory
        self.trace = trace
        self.ledger = Ledger(name, memory, self.format, settings.np_cache, recorder)
        first, *_ = [memory.allocate_table() for _ in range(TABLE_FRAMES)]
        self.device_table: DeviceTable = DeviceTable(name, memory, frame_address(first))
        self.counters = counters = Counters()
        self.iotlb = Iotlb(name, settings.iotlb_entries or None, self.format, is_by_tag=True, counters=counters)
        self.requests = Requests(name)
        self.walk_cache = WalkCache(self.iotlb, memory, self.is_void) if settings.walk_caches else None
        ring, registers = (frame_address(memory.allocate_data()) for _ in range(2))
        self.queue = CommandBuffer(name, memory, ring, settings.queue_entries, status=registers, counters=counters)
