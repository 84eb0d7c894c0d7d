"""The state of an SMMUv3: its stream table, caches, requests and command queue."""

from emu.engine import Trace
from emu.engine.execution import ReadRecorder
from emu.iommus.counters import Counters
from emu.iommus.formats import TableFormat
from emu.iommus.iotlb import Iotlb
from emu.iommus.ledger import Ledger
from emu.iommus.requests import Requests
from emu.iommus.smmu.formats import smmu_format
from emu.iommus.smmu.v3.queue import CommandQueue
from emu.iommus.smmu.v3.settings import Smmuv3Settings
from emu.iommus.smmu.v3.stream_table import StreamTable
from emu.iommus.unit_by_entry import UnitByEntry
from emu.iommus.walk_cache import WalkCache
from emu.memory import Memory
from emu.units import frame_address


class Smmuv3State(UnitByEntry):
    """The state of a unit.

    Attributes:
        sources: the devices behind it, by their stream ids.
        device_table: the stream table.
        counters: of the command queue, of register accesses and of the TLB.
    """

    def __init__(
        self, name: str, settings: Smmuv3Settings, memory: Memory, trace: Trace, recorder: ReadRecorder
    ) -> None:
        self.name = name
        self.format: TableFormat = smmu_format(settings.ipa_bits, settings.superpage_bits)
        self.sources: list[int] = []
        self.settings: Smmuv3Settings = settings
        self.memory = memory
        self.trace = trace
        self.ledger = Ledger(name, memory, self.format, recorder=recorder)
        self.counters = counters = Counters()
        base = frame_address(memory.allocate_table())
        self.device_table: StreamTable = StreamTable(
            name, memory, base, ipa_bits=settings.ipa_bits, aarch32=settings.aarch32
        )
        self.iotlb = Iotlb(name, settings.iotlb_entries or None, self.format, is_by_tag=True, counters=counters)
        self.requests = Requests(name)
        self.walk_cache = WalkCache(self.iotlb, memory, self.is_void) if settings.walk_caches else None
        # Only of a table's frame does memory keep what a unit that does not snoop has not seen yet.
        frame = memory.allocate_data() if settings.coherent else memory.allocate_table()
        self.queue = CommandQueue(name, memory, frame_address(frame), settings.queue_entries, counters=counters)
