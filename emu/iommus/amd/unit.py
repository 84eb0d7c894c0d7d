"""One AMD-Vi unit: it translates the requests of devices, and executes the commands of software."""

from collections.abc import Awaitable
from functools import partial

from emu.engine import Trace
from emu.engine.execution import ReadRecorder
from emu.iommus.amd.engine import engine, operations
from emu.iommus.amd.formats import DeviceTableEntry
from emu.iommus.amd.settings import AmdSettings
from emu.iommus.amd.state import AmdState
from emu.iommus.amd.walk import read_device_entry
from emu.iommus.device_entries import CachedEntry
from emu.iommus.status import StatusWatcher
from emu.iommus.synchronous import SynchronousEngine
from emu.memory import Memory


class AmdUnit(AmdState):
    """An IOMMU."""

    def __init__(self, name: str, settings: AmdSettings, memory: Memory, trace: Trace, recorder: ReadRecorder) -> None:
        super().__init__(name, settings, memory, trace, recorder)
        if settings.synchronous:
            self.queue.at_once = SynchronousEngine(self.queue, partial(engine, self), partial(operations, self), trace)

    def watch_status(self, watcher: StatusWatcher) -> None:
        """Let a watcher judge what waits store."""
        self.queue.status_watcher = watcher

    def read_entry(self, source_id: int) -> Awaitable[CachedEntry[DeviceTableEntry]]:
        """Read a device's entry from the device table."""
        return read_device_entry(self, source_id)

    async def run(self) -> None:
        """Execute the commands in the buffer, as an agent."""
        await engine(self)
