"""One AMD-Vi unit: it translates the requests of devices, and executes the commands of software."""

from functools import partial
from math import inf

from emu.engine import Space, Trace
from emu.engine.atomic import AtomicBlock
from emu.engine.execution import ReadRecorder
from emu.iommus.amd.engine import engine, operations
from emu.iommus.amd.settings import AmdSettings
from emu.iommus.amd.state import AmdState
from emu.iommus.amd.walk import look_up, look_up_accesses, tables_of, walk, walk_accesses
from emu.iommus.iotlb import IotlbEntry
from emu.iommus.paths import Tables
from emu.iommus.requests import Request
from emu.iommus.status import StatusWatcher
from emu.iommus.synchronous import SynchronousEngine
from emu.iommus.walk_cache import choose_start
from emu.memory import Memory
from emu.units import Maddr


class AmdUnit(AmdState):
    """An IOMMU."""

    def __init__(self, name: str, settings: AmdSettings, memory: Memory, trace: Trace, recorder: ReadRecorder) -> None:
        super().__init__(name, settings, memory, trace, recorder)
        if settings.synchronous:
            self.queue.at_once = SynchronousEngine(self.queue, partial(engine, self), partial(operations, self), trace)

    def watch_status(self, watcher: StatusWatcher) -> None:
        """Let a watcher judge what waits store."""
        self.queue.status_watcher = watcher

    async def look_up(self, request: Request) -> IotlbEntry | None:
        """Look a request's page up, by the domain id that the device's entry says."""
        if self.settings.walk_at_once:
            return await AtomicBlock(
                "look_up", lambda: look_up(self, request), lambda: look_up_accesses(self, request), self.trace
            )
        return await look_up(self, request)

    async def walk(self, request: Request) -> IotlbEntry | None:
        """Find a request's translation in the tables; None if the request faults and the fault is not cached.

        The start of a walk that is one step is chosen in steps before it.
        """
        start = None if request.tables is None else await choose_start(self.walk_cache, request)
        if self.settings.walk_at_once:
            return await AtomicBlock(
                "walk", lambda: walk(self, request, start), lambda: walk_accesses(self, request, start), self.trace
            )
        return await walk(self, request, start)

    async def run(self) -> None:
        """Execute the commands in the buffer, as an agent."""
        await engine(self)

    def tables_ever(self, source_id: int) -> list[Tables]:
        """Return the tables that have ever translated for a device, with their lifetimes, newest first."""
        found = []
        for entry, since, until in self.device_table.lifetimes(source_id):
            tables = tables_of(entry)
            if tables is not None:
                found.append(tables._replace(since=since, until=until))
        return found

    def tables_found(self, source_id: int) -> list[Tables]:
        """Return the tables that have ever translated for any device: devices with one domain id find the same."""
        return [tables for one in dict.fromkeys((source_id, *self.sources)) for tables in self.tables_ever(one)]

    def tables_at(self, root: Maddr) -> list[Tables]:
        """Return the tables with this root that have ever translated here for any device, with tags and lifetimes.

        Tables whose tag no device's entry says any more are left out: nobody finds what is cached under it. Records as
        read the device table entries that decide it.
        """
        ever: dict[Tables, None] = {}
        for source_id in self.sources:
            self.device_table.record_reads(source_id, self.ledger.recorder)
            ever |= dict.fromkeys(self.tables_ever(source_id))
        in_use = {tables.tag for tables in ever if tables.until == inf}
        return [tables for tables in ever if tables.levels and tables.root == root and tables.tag in in_use]

    def device_reads(self, source_id: int) -> list[tuple[Space, int]]:
        """Return the objects that decide which tables translate for a device: the words of its entry."""
        return self.device_table.reads(source_id)

    def lets_through(self, source_id: int) -> bool:
        """Whether requests may pass untranslated: by an entry with V clear, or with mode 0."""
        return any(tables.levels == 0 and tables.until == inf for tables in self.tables_ever(source_id))

    def may_refuse(self, source_id: int) -> bool:
        """Whether the unit may refuse a device's requests by a cached entry that aborts and has been replaced."""
        _, *replaced = self.device_table.lifetimes(source_id)
        return any(tables_of(entry) is None and until == inf for entry, _, until in replaced)
