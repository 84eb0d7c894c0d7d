"""Windows: for each entry that was replaced, the steps until an invalidation that covers it had completed."""

from collections.abc import Iterator

import attrs

from emu.engine import Event
from emu.hypervisor.vtd import VtdDriver
from emu.iommus.vtd.formats import decode_pte
from emu.machine import Machine


@attrs.frozen
class Window:
    """The time in which a replaced entry could still be used.

    Attributes:
        opened: the step of the store that replaced it.
        closed: the step at which the invalidation completed; the last step if none did.
    """

    domain: int
    dfn: int
    opened: int
    closed: int

    @property
    def steps(self) -> int:
        """Its length."""
        return self.closed - self.opened


def windows(machine: Machine) -> Iterator[Window]:
    """Yield the windows of an execution, in the order in which they closed. Walkers are taken to see stores at once."""
    still_open: list[tuple[int, int, int]] = []
    for event in machine.trace.events():
        if event.name in {"pte.write", "pte.clear"} and event.fields["table_level"] == 1:
            if decode_pte(event.fields["old"], 1) is not None:
                still_open.append((event.fields["domain"], event.fields["dfn"], event.step))
        elif event.name == "invalidate.complete":
            closed = [window for window in still_open if closes(event, *window, machine.driver)]
            still_open = [window for window in still_open if window not in closed]
            yield from (Window(*window, event.step) for window in closed)
    yield from (Window(*window, machine.trace.step) for window in still_open)


def covers(event: Event, unit: str, tag: int | None, dfn: int) -> bool:
    """Whether an `invalidate.complete` event is about a page of a tag at a unit."""
    keys = event.fields
    if keys["iommu"] != unit or keys["tag"] not in {"all", tag}:
        return False
    return "dfn" not in keys or keys["dfn"] <= dfn < keys["dfn"] + (1 << keys["page_order"])


def closes(event: Event, domain: int, dfn: int, opened: int, driver: VtdDriver) -> bool:
    """Whether an invalidation that has completed closes a window."""
    unit = event.fields["iommu"]
    tag = next(iommu.domids.peek(domain) for iommu in driver.iommus if iommu.unit.name == unit)
    return event.fields["began"] >= opened and covers(event, unit, tag, dfn)
