"""What devices and checks need of a remapping unit, whatever its vendor."""

from collections.abc import Awaitable
from typing import Protocol

from emu.engine import Space
from emu.iommus.formats import TableFormat
from emu.iommus.iotlb import Iotlb, IotlbEntry
from emu.iommus.ledger import Ledger
from emu.iommus.paths import Tables
from emu.iommus.requests import Request, Requests
from emu.iommus.settings import UnitSettings
from emu.iommus.status import StatusWatcher
from emu.memory import Memory
from emu.units import Maddr


class Unit(Protocol):
    """A remapping unit.

    Attributes:
        name: unique in its machine, and the name of the agent that is its engine.
        sources: the devices that stand behind it, by the ids that their requests carry.
        format: of the tables that it walks.
        ledger: which translations it may legally use.
        iotlb: which translations it really caches.
        requests: the requests in flight.
    """

    name: str
    memory: Memory
    sources: list[int]
    format: TableFormat
    ledger: Ledger
    iotlb: Iotlb
    requests: Requests

    @property
    def settings(self) -> UnitSettings:
        """Its settings."""

    def watch_status(self, watcher: StatusWatcher) -> None:
        """Have a watcher told of the status words that it writes."""

    def look_up(self, request: Request) -> Awaitable[IotlbEntry | None]:
        """Look a request's page up in the IOTLB; None if it is not cached."""

    async def walk(self, request: Request) -> IotlbEntry | None:
        """Find a request's translation in the tables; None if it faults and the fault is not cached."""

    def is_void(self, request: Request) -> bool:
        """Whether an invalidation has voided a walk, so that it may not fill the cache."""

    async def run(self) -> None:
        """Execute what software asks for, as an agent. A synchronous unit has no such agent."""

    def tables_ever(self, source_id: int) -> list[Tables]:
        """Return the tables that have ever translated for a device, with their lifetimes, newest first."""

    def tables_at(self, root: Maddr) -> list[Tables]:
        """Return the tables with a root that have ever translated here, and record as read what decides that."""

    def may_refuse(self, source_id: int) -> bool:
        """Whether it may refuse a device's requests because it once had no tables: that is cached, and not dropped."""

    def device_reads(self, source_id: int) -> list[tuple[Space, int]]:
        """Return the objects that decide which tables translate for a device."""
