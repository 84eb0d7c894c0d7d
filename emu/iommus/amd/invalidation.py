"""The invalidation of a cached device table entry (section 2.4.2)."""

from collections.abc import Iterable, Mapping
from typing import Any

from emu.engine import Access, Kind, Operation
from emu.iommus.amd.state import AmdState
from emu.iommus.iotlb import DFN_MAX
from emu.iommus.requests import Request

DEVICE_ID_MAX = 0xFFFF


class RemoveDeviceEntry(Operation[list[Request]]):
    """Drop a device's cached entry, or all entries, void the lookups and walks that hold one, and return what to drain.

    These are the requests that were let through by such an entry and are not yet committed.
    """

    __slots__ = ("draining", "removed", "source_id", "start", "unit")

    event = "device_entry.invalidate"

    def __init__(self, unit: AmdState, source_id: int | None, start: int) -> None:
        self.unit = unit
        self.source_id = source_id
        self.start = start
        self.removed = self.draining = 0

    def accesses(self) -> Iterable[Access]:
        table, iotlb = self.unit.device_table, self.unit.iotlb
        sources = (0, DEVICE_ID_MAX) if self.source_id is None else (self.source_id, self.source_id)
        yield table.access(Kind.COMMUTE, *sources)
        yield Access(table.completions, *sources, Kind.COMMUTE)
        yield Access.to(iotlb.walk_space(self.unit.format.device_level), 0, Kind.COMMUTE)
        yield iotlb.access(0, DFN_MAX, Kind.COMMUTE)

    def perform(self, step: int) -> list[Request]:
        unit = self.unit
        self.removed = unit.device_table.invalidate(self.source_id, self.start, step)
        in_flight = unit.requests.in_flight.values()
        translated = [one for one in in_flight if one.is_translated and self.source_id in {None, one.source_id}]
        self.draining = len(translated)
        return sorted(translated, key=lambda one: one.number)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys = {"iommu": self.unit.name, "source_id": "all" if self.source_id is None else self.source_id}
        return self.event, {**keys, "removed": self.removed, "began": self.start, "draining": self.draining}
