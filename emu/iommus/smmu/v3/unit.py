"""One SMMUv3: it translates the requests of devices, and executes the commands of software."""

from collections.abc import Awaitable
from functools import partial

from emu.engine import Trace
from emu.engine.execution import ReadRecorder
from emu.iommus.device_entries import CachedEntry
from emu.iommus.smmu.v3.engine import engine, operations
from emu.iommus.smmu.v3.formats import StreamTableEntry
from emu.iommus.smmu.v3.settings import Smmuv3Settings
from emu.iommus.smmu.v3.state import Smmuv3State
from emu.iommus.smmu.v3.walk import read_stream_entry
from emu.iommus.status import StatusWatcher
from emu.iommus.synchronous import SynchronousEngine
from emu.memory import Memory


class Smmuv3Unit(Smmuv3State):
    """An SMMUv3."""

    def __init__(
        self, name: str, settings: Smmuv3Settings, memory: Memory, trace: Trace, recorder: ReadRecorder
    ) -> None:
        super().__init__(name, settings, memory, trace, recorder)
        if settings.synchronous:
            self.queue.at_once = SynchronousEngine(self.queue, partial(engine, self), partial(operations, self), trace)

    def watch_status(self, watcher: StatusWatcher) -> None:
        """Do nothing: it tells of what it has done by CONS, and writes no status word."""

    def read_entry(self, source_id: int) -> Awaitable[CachedEntry[StreamTableEntry]]:
        """Read a stream's entry from the stream table."""
        return read_stream_entry(self, source_id)

    async def run(self) -> None:
        """Execute the commands in the queue, as an agent."""
        await engine(self)
