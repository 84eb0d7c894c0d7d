"""Flushing the chipset's write buffer by a unit's registers (section 6.8; 11.4.4.1, GCMD.WBF and GSTS.WBFS)."""

from emu.iommus.vtd.state import VtdState
from emu.memory import DrainWriteBuffer


class FlushWriteBuffer(DrainWriteBuffer):
    """Drain the write buffer: software writes the command register, then reads the status until it is done."""

    __slots__ = ("counters",)

    saved_as = DrainWriteBuffer.__name__

    def __init__(self, unit: VtdState) -> None:
        super().__init__(unit.memory)
        self.counters = unit.counters

    def perform(self, step: int) -> None:
        self.counters.buffer_flushes += 1
        self.counters.register_writes += 1
        self.counters.register_reads += 1
        super().perform(step)
