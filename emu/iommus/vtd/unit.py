"""One VT-d unit: it translates the requests of devices, and executes the descriptors of software."""

from collections.abc import Awaitable
from functools import partial
from math import inf

from emu.engine import Space, Trace
from emu.engine.atomic import AtomicBlock
from emu.engine.execution import ReadRecorder
from emu.iommus.iotlb import IotlbEntry, Lookup
from emu.iommus.paths import Tables
from emu.iommus.requests import Request
from emu.iommus.status import StatusWatcher
from emu.iommus.synchronous import SynchronousEngine
from emu.iommus.vtd.engine import engine, operations
from emu.iommus.vtd.settings import VtdSettings
from emu.iommus.vtd.state import VtdState
from emu.iommus.vtd.walk import walk, walk_accesses
from emu.iommus.walk_cache import choose_start
from emu.memory import Memory
from emu.units import Maddr


class VtdUnit(VtdState):
    """A remapping unit."""

    def __init__(self, name: str, settings: VtdSettings, memory: Memory, trace: Trace, recorder: ReadRecorder) -> None:
        super().__init__(name, settings, memory, trace, recorder)
        if settings.synchronous:
            self.queue.at_once = SynchronousEngine(self.queue, partial(engine, self), partial(operations, self), trace)

    def watch_status(self, watcher: StatusWatcher) -> None:
        """Let a watcher judge the status words of waits."""
        self.queue.status_watcher = watcher

    def look_up(self, request: Request) -> Awaitable[IotlbEntry | None]:
        """Look a request's page up in the IOTLB, by its source-id."""
        return Lookup(self.iotlb, request)

    async def walk(self, request: Request) -> IotlbEntry | None:
        """Find a request's translation in the tables; None if the request faults and the fault is not cached.

        The start of a walk that is one step is chosen in steps before it.
        """
        start = await choose_start(self.walk_cache, request)
        if self.settings.walk_at_once:
            return await AtomicBlock(
                "walk", lambda: walk(self, request, start), lambda: walk_accesses(self, request, start), self.trace
            )
        return await walk(self, request, start)

    async def run(self) -> None:
        """Execute the descriptors of the invalidation queue, as an agent."""
        await engine(self)

    def tables_ever(self, source_id: int) -> list[Tables]:
        """Return the tables that have ever translated for a device, with their lifetimes, newest first."""
        return [
            Tables(
                entry.did,
                entry.root,
                entry.levels,
                since,
                inf if dropped == inf else self.ledger.completed.all_dropped(entry.did, dropped),
            )
            for entry, since, dropped in self.contexts.lifetimes(source_id)
        ]

    def tables_found(self, source_id: int) -> list[Tables]:
        """Return the tables that have ever translated for a device: it finds only what was cached for itself."""
        return self.tables_ever(source_id)

    def tables_at(self, root: Maddr) -> list[Tables]:
        """Return the tables with this root that have ever translated here for any device, with tags and lifetimes.

        Records as read the context entries that decide it.
        """
        found: dict[Tables, None] = {}
        for source_id in self.sources:
            self.contexts.record_reads(source_id, self.ledger.recorder)
            found |= dict.fromkeys(tables for tables in self.tables_ever(source_id) if tables.root == root)
        return list(found)

    def device_reads(self, source_id: int) -> list[tuple[Space, int]]:
        """Return the objects that decide which tables translate for a device: its context entries."""
        return self.contexts.reads(source_id)

    def lets_through(self, source_id: int) -> bool:
        """Whether requests may pass untranslated: no, pass-through context entries (TT 2) are not modelled."""
        return False

    def may_refuse(self, source_id: int) -> bool:
        """Whether the unit may refuse a device's requests by a cached context entry that is not present."""
        return self.contexts.may_refuse(source_id)
