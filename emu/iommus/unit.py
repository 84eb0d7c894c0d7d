"""The protocol of a remapping unit, as devices and checks use it, whatever its vendor."""

from collections.abc import Awaitable
from typing import Protocol

from emu.engine import Space
from emu.iommus.counters import Counters
from emu.iommus.formats import TableFormat
from emu.iommus.iotlb import Iotlb, IotlbEntry
from emu.iommus.ledger import Ledger
from emu.iommus.paths import Tables
from emu.iommus.requests import Request, Requests
from emu.iommus.settings import UnitSettings
from emu.iommus.status import StatusWatcher
from emu.iommus.walk_cache import WalkCache
from emu.memory import Memory
from emu.units import Maddr


class UnitState(Protocol):
    """The state of a remapping unit that units of every vendor have.

    Attributes:
        name: unique in its machine, and the name of its engine's agent.
        sources: the devices behind it, by the ids that their requests carry.
        format: the format of the tables that it walks.
        ledger: the translations that it may legally use.
        iotlb: the translations that it really caches.
        requests: the requests in flight.
        walk_cache: the table entries that it really caches; None if it caches none.
        counters: count what it was asked to do.
    """

    name: str
    memory: Memory
    sources: list[int]
    format: TableFormat
    ledger: Ledger
    iotlb: Iotlb
    requests: Requests
    walk_cache: WalkCache | None
    counters: Counters

    @property
    def settings(self) -> UnitSettings:
        """Its settings."""


class Unit(UnitState, Protocol):
    """A remapping unit."""

    def watch_status(self, watcher: StatusWatcher) -> None:
        """Let a watcher judge the status words that the unit writes."""

    def look_up(self, request: Request) -> Awaitable[IotlbEntry | None]:
        """Look a request's page up in the IOTLB; None if it is not cached."""

    async def walk(self, request: Request) -> IotlbEntry | None:
        """Find a request's translation in the tables; None if the request faults and the fault is not cached."""

    def is_void(self, request: Request) -> bool:
        """Whether an invalidation has voided a walk, so that it may not fill the cache."""

    async def run(self) -> None:
        """Execute the invalidations that software submits, as an agent. A synchronous unit has no such agent."""

    def tables_ever(self, source_id: int) -> list[Tables]:
        """Return the tables that have ever translated for a device, with their lifetimes, newest first."""

    def tables_found(self, source_id: int) -> list[Tables]:
        """Return the tables of which a device may ever have found what was cached, its own and others'."""

    def tables_at(self, root: Maddr) -> list[Tables]:
        """Return the tables with this root that have ever translated here, and record the deciding objects as read."""

    def may_refuse(self, source_id: int) -> bool:
        """Whether the unit may refuse a device's requests by a cached non-present device entry, since replaced."""

    def lets_through(self, source_id: int) -> bool:
        """Whether the unit may let a device's requests through untranslated."""

    def device_reads(self, source_id: int) -> list[tuple[Space, int]]:
        """Return the objects that decide which tables translate for a device."""
