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
from emu.memory import Memory
from emu.units import Maddr


class Unit(Protocol):
    """A remapping unit.

    Attributes:
        name: unique in its machine, and the name of the agent that is its engine.
        sources: the devices that stand behind it, by the ids that their requests carry.
        format: of the tables that it walks.
        ledger: which translations it may legally use; `iotlb` is what its cache really holds.
        requests: those in flight.
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
        """What it can do."""

    def look_up(self, request: Request) -> Awaitable[IotlbEntry | None]:
        """Look a request's page up in the IOTLB; None where it is not cached."""

    async def walk(self, request: Request) -> IotlbEntry | None:
        """Find a request's translation in the tables; None where it faults, and that may not be cached."""

    def is_void(self, request: Request) -> bool:
        """Whether a walk has read what an invalidation has removed since: then it may not fill the cache."""

    async def run(self) -> None:
        """Be the engine that executes what software asks for. Not run where the unit is synchronous."""

    def tables_ever(self, source_id: int) -> list[Tables]:
        """Return the tables that have ever translated for a device, newest first, and from when until when."""

    def tables_at(self, root: Maddr) -> list[Tables]:
        """Return as what the tables of a root have ever translated here; what decides that is noted as read."""

    def device_reads(self, source_id: int) -> list[tuple[Space, int]]:
        """Return the objects that decide which tables translate for a device."""
