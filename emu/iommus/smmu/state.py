"""The state of an SMMUv2: its registers, caches and requests."""

from emu.engine import Trace
from emu.engine.execution import ReadRecorder
from emu.iommus.counters import Counters
from emu.iommus.formats import TableFormat
from emu.iommus.iotlb import Iotlb
from emu.iommus.ledger import Ledger
from emu.iommus.requests import Request, Requests, TableRead
from emu.iommus.smmu.formats import smmu_format
from emu.iommus.smmu.queue import TlbRegisters
from emu.iommus.smmu.registers import PAGES, Registers
from emu.iommus.smmu.settings import SmmuSettings
from emu.iommus.unit_by_tag import UnitByTag
from emu.iommus.walk_cache import WalkCache
from emu.memory import Memory
from emu.units import frame_address


class SmmuState(UnitByTag):
    """The state of a unit.

    Attributes:
        sources: the devices behind it, by their stream ids.
        registers: say which tables translate for a stream.
        queue: what software has asked its TLB for.
        counters: of register accesses, of invalidations and of the TLB.
    """

    def __init__(self, name: str, settings: SmmuSettings, memory: Memory, trace: Trace, recorder: ReadRecorder) -> None:
        self.name = name
        self.format: TableFormat = smmu_format(settings.ipa_bits, settings.superpage_bits)
        self.sources: list[int] = []
        self.settings: SmmuSettings = settings
        self.memory = memory
        self.trace = trace
        self.ledger = Ledger(name, memory, self.format, recorder=recorder)
        self.counters = counters = Counters()
        first, *_ = [memory.allocate_data() for _ in range(PAGES)]
        self.registers = Registers(name, memory, frame_address(first), counters)
        self.queue = TlbRegisters(name, counters)
        self.iotlb = Iotlb(name, settings.iotlb_entries or None, self.format, is_by_tag=True, counters=counters)
        self.requests = Requests(name)
        self.walk_cache = WalkCache(self.iotlb, memory, self.is_void) if settings.walk_caches else None

    def is_void(self, request: Request) -> bool:
        """Whether a walk may not fill the TLB any more: an invalidation of its VMID began after one of its reads.

        The registers that led it to its tables count like the words of these tables.
        """
        if self.requests.has_dropped_start(request) and self.is_from_another_root(request):
            return True
        return self.requests.is_void(request, self.was_replaced)

    def was_replaced(self, request: Request, read: TableRead, step: int) -> bool:
        """Whether a word, or the half of a word that is a register, had a newer value up to a step."""
        if read.level != self.format.device_level:
            return read.was_replaced(self.memory, step)
        before, now = (self.registers.value_at(at, read.address) for at in (read.step, step))
        return before != now
