"""The invalidation of a cached device table entry (section 2.4.2)."""

from collections.abc import Iterable, Mapping
from typing import Any

from emu.engine import Access, Kind, Operation
from emu.iommus.amd.state import AmdState
from emu.iommus.iotlb import DFN_MAX
from emu.iommus.requests import Request

DEVICE_ID_MAX = 0xFFFF


def sources(source_id: int | None) -> tuple[int, int]:
    """Return the first and the last device id of an invalidation; None is every device."""
    return (0, DEVICE_ID_MAX) if source_id is None else (source_id, source_id)


def keys_of(unit: AmdState, source_id: int | None) -> dict[str, Any]:
    """Return the unit and the device of an invalidation as keys of an event."""
    return {"iommu": unit.name, "source_id": "all" if source_id is None else source_id}


class RemoveDeviceEntry(Operation[list[Request]]):
    """Drop a device's cached entry, or all entries, void the lookups and walks that hold one, and return what to drain.

    These are the requests that were let through by such an entry and are not yet committed. If there are none, or the
    unit has no agent that could wait for them, the invalidation has completed.
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
        yield table.access(Kind.COMMUTE, *sources(self.source_id))
        yield Access(table.completions, *sources(self.source_id), Kind.COMMUTE)
        yield Access.to(iotlb.walk_space(self.unit.format.device_level), 0, Kind.COMMUTE)
        yield iotlb.access(0, DFN_MAX, Kind.COMMUTE)

    def perform(self, step: int) -> list[Request]:
        unit = self.unit
        self.removed = unit.device_table.remove(self.source_id, self.start)
        in_flight = unit.requests.in_flight.values()
        translated = [one for one in in_flight if one.is_translated and self.source_id in {None, one.source_id}]
        self.draining = len(translated)
        if not translated or unit.settings.synchronous:
            unit.device_table.complete(self.source_id, self.start, step)
        return sorted(translated, key=lambda one: one.number)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        done = {"removed": self.removed, "began": self.start, "draining": self.draining}
        return self.event, {**keys_of(self.unit, self.source_id), **done}


class CompleteDeviceEntry(Operation[None]):
    """Complete an invalidation of a device's entry that had to drain requests."""

    __slots__ = ("source_id", "start", "unit")

    event = "device_entry.complete"

    def __init__(self, unit: AmdState, source_id: int | None, start: int) -> None:
        self.unit = unit
        self.source_id = source_id
        self.start = start

    def accesses(self) -> Iterable[Access]:
        return (Access(self.unit.device_table.completions, *sources(self.source_id), Kind.COMMUTE),)

    def perform(self, step: int) -> None:
        self.unit.device_table.complete(self.source_id, self.start, step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {**keys_of(self.unit, self.source_id), "began": self.start}
