"""The invalidation of cached context entries (section 6.5.2.1)."""

from collections.abc import Iterable, Mapping
from typing import Any

from emu.engine import Access, Kind, Operation
from emu.iommus.vtd.contexts import sources_covered
from emu.iommus.vtd.formats import ContextInvalidation
from emu.iommus.vtd.state import VtdState


class RemoveContexts(Operation[None]):
    """Drop cached context entries, and count the invalidation as complete."""

    __slots__ = ("descriptor", "removed", "start", "unit")

    event = "context.invalidate"

    def __init__(self, unit: VtdState, descriptor: ContextInvalidation, start: int) -> None:
        self.unit = unit
        self.descriptor = descriptor
        self.start = start
        self.removed = 0

    def accesses(self) -> Iterable[Access]:
        contexts, sources = self.unit.contexts, sources_covered(self.descriptor)
        return contexts.access(Kind.COMMUTE, *sources), Access(contexts.completions, *sources, Kind.COMMUTE)

    def perform(self, step: int) -> None:
        self.removed = self.unit.contexts.invalidate(self.descriptor, self.start, step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"iommu": self.unit.name, "removed": self.removed, "began": self.start}
