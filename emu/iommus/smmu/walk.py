"""The first step of a walk of an SMMUv2: stream mapping and context bank (IHI 0062, chapters 2 and 3).

The stream id selects a stream match register, its S2CR a context bank, and the bank the tables, with the VMID as tag.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from emu.engine import Access, Kind, Operation
from emu.iommus.paths import Tables
from emu.iommus.requests import Request, TableRead
from emu.iommus.smmu.state import SmmuState


class MatchStream(Operation[Tables | None]):
    """Read the registers that say which tables translate for a request; None if the request faults by them."""

    __slots__ = ("request", "tables", "unit")

    event = "stream.match"

    def __init__(self, unit: SmmuState, request: Request) -> None:
        self.unit = unit
        self.request = request
        self.tables: Tables | None = None

    def accesses(self) -> Iterable[Access]:
        return (self.unit.registers.access(Kind.READ),)

    def perform(self, step: int) -> Tables | None:
        unit, level = self.unit, self.unit.format.device_level
        self.tables, read = unit.registers.snapshot(self.request.source_id, unit.registers.value)
        order = unit.format.orders[level]
        self.request.reads += [TableRead(level, order, address, step, is_leaf=False) for address in read]
        return self.tables

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys: dict[str, Any] = {"iommu": self.unit.name, "source_id": self.request.source_id}
        if self.tables is None:
            return "stream.fault", keys
        return self.event, {**keys, "tag": self.tables.tag} if self.tables.levels else keys
