"""One VT-d unit: its settings and caches, and what it does for a device's request."""

from math import inf

import attrs

from emu.engine import Trace
from emu.engine.atomic import AtOnce
from emu.engine.execution import ReadRecorder
from emu.iommus.iotlb import Iotlb, IotlbEntry
from emu.iommus.ledger import Ledger, Tables
from emu.iommus.requests import CONTEXT_LEVEL, Request, Requests, TableRead
from emu.iommus.vtd.contexts import ContextCache
from emu.iommus.vtd.formats import decode_pte
from emu.iommus.vtd.invalidation import SynchronousEngine, engine
from emu.iommus.vtd.queue import ENTRIES, InvalidationQueue
from emu.iommus.vtd.walk import walk, walk_accesses
from emu.memory import Memory
from emu.units import Maddr, frame_address


@attrs.frozen
class VtdSettings:
    """What the capability registers of a unit say.

    Attributes:
        caching_mode: CAP.CM: non-present entries are cached, so software must invalidate after making one present.
        coherent: ECAP.C: walks snoop the CPUs' caches.
        write_buffer: CAP.RWBF: stores to tables may wait in the chipset until software asks for a flush.
        mamv: CAP.MAMV: the largest address mask of a page-selective invalidation.
        page_selective: CAP.PSI: page-selective invalidation is supported.
        drain: CAP.DRD and DWD: an invalidation that asks for it completes only when the requests that were translated
            before it have been committed (section 6.5.4).
        queue_entries: slots of the invalidation queue; fewer than 256 are not architectural.
        snoop_control: ECAP.SC: leaves may carry SNP.
        iotlb_entries: size of the concrete IOTLB; None for as many as come.
        synchronous: not architectural: descriptors are executed in the step that posts them, and what would have to
            be drained begins again instead.
        walk_at_once: not architectural: a walk is one step.
    """

    caching_mode: bool = False
    coherent: bool = True
    write_buffer: bool = False
    mamv: int = attrs.field(default=18, validator=[attrs.validators.ge(0), attrs.validators.le(52)])
    page_selective: bool = True
    drain: bool = True
    queue_entries: int = attrs.field(default=ENTRIES, validator=attrs.validators.ge(2))
    snoop_control: bool = True
    iotlb_entries: int | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.ge(1)))
    synchronous: bool = False
    walk_at_once: bool = False


class VtdUnit:
    """A remapping unit, with one root table and one invalidation queue of its own.

    Attributes:
        sources: the devices that stand behind it, by their source-ids.
    """

    def __init__(self, name: str, settings: VtdSettings, memory: Memory, trace: Trace, recorder: ReadRecorder) -> None:
        self.name = name
        self.sources: list[int] = []
        self.settings = settings
        self.memory = memory
        self.trace = trace
        self.ledger = Ledger(name, memory, decode_pte, settings.caching_mode, recorder)
        self.contexts = ContextCache(name, memory, frame_address(memory.allocate_table()))
        self.iotlb = Iotlb(name, settings.iotlb_entries)
        self.requests = Requests(name)
        at_once = SynchronousEngine(self) if settings.synchronous else None
        self.queue = InvalidationQueue(name, frame_address(memory.allocate_data()), settings.queue_entries, at_once)

    async def walk(self, request: Request) -> IotlbEntry | None:
        """Find a request's translation in the tables; None where it faults."""
        if self.settings.walk_at_once:
            return await AtOnce("walk", lambda: walk(self, request), lambda: walk_accesses(self, request), self.trace)
        return await walk(self, request)

    def is_void(self, request: Request) -> bool:
        """Whether a walk has read an entry that was replaced before an invalidation removed it: it may not fill.

        A context entry is removed with what was found by it, by an IOTLB invalidation that comes after its own (section
        6.2.2.1). A walk that has read only what was still in force may go on: beginning again it would find the same.
        """
        return any(
            self.was_replaced(request, read, removal.start)
            for removal in self.requests.removed_since(request)
            for read in request.reads
            if removal.covers(read, request.dfn)
        )

    def was_replaced(self, request: Request, read: TableRead, step: int) -> bool:
        """Whether a word that was read had been replaced for walkers up to a step; a context entry dropped, besides."""
        if read.level == CONTEXT_LEVEL:
            return self.contexts.had_dropped(request.source_id, request.tag, read, step)
        return read.was_replaced(self.memory, step)

    async def run(self) -> None:
        """Be the engine of the invalidation queue."""
        await engine(self)

    def tables_ever(self, source_id: int) -> list[Tables]:
        """Return the tables that have ever translated for a device, newest first, and from when until when."""
        return [
            Tables(
                entry.did,
                entry.root,
                entry.levels,
                since,
                inf if dropped == inf else self.ledger.all_dropped(entry.did, dropped),
            )
            for entry, since, dropped in self.contexts.lifetimes(source_id)
        ]

    def tables_at(self, root: Maddr) -> list[Tables]:
        """Return as what the tables of a root have ever translated here, for any device: with which tags, and when.

        What decides that is noted as read.
        """
        found: dict[Tables, None] = {}
        for source_id in self.sources:
            self.contexts.record_reads(source_id, self.ledger.recorder)
            found |= dict.fromkeys(tables for tables in self.tables_ever(source_id) if tables.root == root)
        return list(found)
