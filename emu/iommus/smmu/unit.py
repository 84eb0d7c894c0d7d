"""One SMMUv2: it translates the requests of devices, and executes the invalidations of software."""

from collections.abc import Awaitable, Iterator
from functools import partial
from math import inf

from emu.engine import Access, Kind, Space, Trace
from emu.engine.execution import ReadRecorder
from emu.iommus.objects import object_number
from emu.iommus.paths import UNTRANSLATED, Tables
from emu.iommus.requests import Request
from emu.iommus.smmu.engine import engine, operations
from emu.iommus.smmu.settings import SmmuSettings
from emu.iommus.smmu.state import SmmuState
from emu.iommus.smmu.walk import MatchStream
from emu.iommus.status import StatusWatcher
from emu.iommus.synchronous import SynchronousEngine
from emu.memory import Memory


class SmmuUnit(SmmuState):
    """An SMMU."""

    def __init__(self, name: str, settings: SmmuSettings, memory: Memory, trace: Trace, recorder: ReadRecorder) -> None:
        super().__init__(name, settings, memory, trace, recorder)
        if settings.synchronous:
            self.queue.at_once = SynchronousEngine(self.queue, partial(engine, self), partial(operations, self), trace)

    def watch_status(self, watcher: StatusWatcher) -> None:
        """Do nothing: it tells of what it has done by a register, and writes no status word."""

    def find_tables(self, request: Request) -> Awaitable[Tables | None]:
        """Find the tables of a request's stream by the registers; None if the request faults by them."""
        return MatchStream(self, request)

    def tables_accesses(self, source_id: int) -> Iterator[Access]:
        """Yield the access to the registers."""
        yield self.registers.access(Kind.READ)

    def tables_now(self, source_id: int) -> Tables | None:
        """Return the tables that the registers name for a stream now, without a step."""
        tables, _ = self.registers.snapshot(source_id, self.registers.value)
        return tables

    def has_lost_tables(self, request: Request) -> bool:
        """Whether an invalidation of its VMID began after the registers that a request has read were replaced."""
        return self.is_void(request)

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

    def device_reads(self, source_id: int) -> list[tuple[Space, int]]:
        """Return the objects that decide which tables translate for a stream.

        They are the registers, and the invalidations of the VMIDs of tables that were replaced.
        """
        replaced = (tables for tables, _, until in self.registers.lifetimes(source_id) if until < inf)
        tags = dict.fromkeys(tables.tag for tables in replaced if tables is not None)
        # What passes untranslated ends with an invalidation of every VMID, and so of number 0.
        ended_with = (0 if tag == UNTRANSLATED else tag for tag in tags)
        return [(self.registers.space, 0), *((self.ledger.space, object_number(tag, 0)) for tag in ended_with)]

    def may_refuse(self, source_id: int) -> bool:
        """Whether the unit may refuse a stream's requests by what the registers said before: no, nothing is cached."""
        return False
