"""One SMMUv2: it translates the requests of devices, and executes the invalidations of software."""

from functools import partial
from math import inf

from emu.engine import Space, Trace
from emu.engine.atomic import AtomicBlock
from emu.engine.execution import ReadRecorder
from emu.iommus.iotlb import IotlbEntry
from emu.iommus.objects import object_number
from emu.iommus.paths import UNTRANSLATED, Tables
from emu.iommus.requests import Request
from emu.iommus.smmu.engine import engine, operations
from emu.iommus.smmu.settings import SmmuSettings
from emu.iommus.smmu.state import SmmuState
from emu.iommus.smmu.walk import look_up, look_up_accesses, walk, walk_accesses
from emu.iommus.status import StatusWatcher
from emu.iommus.synchronous import SynchronousEngine
from emu.iommus.walk_cache import choose_start
from emu.memory import Memory
from emu.units import Maddr


class SmmuUnit(SmmuState):
    """An SMMU."""

    def __init__(self, name: str, settings: SmmuSettings, memory: Memory, trace: Trace, recorder: ReadRecorder) -> None:
        super().__init__(name, settings, memory, trace, recorder)
        if settings.synchronous:
            self.queue.at_once = SynchronousEngine(self.queue, partial(engine, self), partial(operations, self), trace)

    def watch_status(self, watcher: StatusWatcher) -> None:
        """Do nothing: it tells of what it has done by a register, and writes no status word."""

    async def look_up(self, request: Request) -> IotlbEntry | None:
        """Look a request's page up, by the VMID of the context bank that the stream's registers name."""
        if self.settings.walk_at_once:
            return await AtomicBlock(
                "look_up", lambda: look_up(self, request), lambda: look_up_accesses(self, request), self.trace
            )
        return await look_up(self, request)

    async def walk(self, request: Request) -> IotlbEntry | None:
        """Find a request's translation in the tables; None if the request faults.

        The start of a walk that is one step is chosen in steps before it.
        """
        start = None if request.tables is None else await choose_start(self.walk_cache, request)
        if self.settings.walk_at_once:
            return await AtomicBlock(
                "walk", lambda: walk(self, request, start), lambda: walk_accesses(self, request, start), self.trace
            )
        return await walk(self, request, start)

    async def run(self) -> None:
        """Execute what software asks for, as an agent."""
        await engine(self)

    def tables_ever(self, source_id: int) -> list[Tables]:
        """Return the tables that have ever translated for a stream, with their lifetimes, newest first.

        The lifetime of replaced ones ends with the first invalidation of their VMID that began after that.
        """
        dropped = self.ledger.completed.all_dropped
        return [
            tables._replace(since=since, until=inf if until == inf else dropped(tables.tag, until))
            for tables, since, until in self.registers.lifetimes(source_id)
            if tables is not None
        ]

    def tables_found(self, source_id: int) -> list[Tables]:
        """Return the tables that have ever translated for any stream: streams with one VMID find the same."""
        return [tables for one in dict.fromkeys((source_id, *self.sources)) for tables in self.tables_ever(one)]

    def tables_at(self, root: Maddr) -> list[Tables]:
        """Return the tables with this root that have ever translated here for any stream, with tags and lifetimes.

        Tables whose VMID no stream uses any more are left out: nobody finds what is cached under it. Records as read
        the objects that decide it.
        """
        ever: dict[Tables, None] = {}
        for source_id in self.sources:
            for space, number in self.device_reads(source_id):
                self.ledger.recorder.read(space, number)
            ever |= dict.fromkeys(self.tables_ever(source_id))
        in_use = {tables.tag for tables in ever if tables.until == inf}
        return [tables for tables in ever if tables.levels and tables.root == root and tables.tag in in_use]

    def device_reads(self, source_id: int) -> list[tuple[Space, int]]:
        """Return the objects that decide which tables translate for a stream.

        They are the registers, and the invalidations of the VMIDs of tables that were replaced.
        """
        replaced = (tables for tables, _, until in self.registers.lifetimes(source_id) if until < inf)
        tags = dict.fromkeys(tables.tag for tables in replaced if tables is not None)
        # What passes untranslated ends with an invalidation of every VMID, and so of number 0.
        ended_with = (0 if tag == UNTRANSLATED else tag for tag in tags)
        return [(self.registers.space, 0), *((self.ledger.space, object_number(tag, 0)) for tag in ended_with)]

    def lets_through(self, source_id: int) -> bool:
        """Whether requests may pass untranslated: by an S2CR of type bypass, or a context bank that is not enabled."""
        return any(tables.levels == 0 and tables.until == inf for tables in self.tables_ever(source_id))

    def may_refuse(self, source_id: int) -> bool:
        """Whether the unit may refuse a stream's requests by what the registers said before: no, nothing is cached."""
        return False
