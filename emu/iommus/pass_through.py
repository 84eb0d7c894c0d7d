"""Letting a request through untranslated, whatever the vendor: its address is that of the memory."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from emu.engine import Access, Operation
from emu.iommus.completed_invalidations import DFN_BITS
from emu.iommus.formats import Translation
from emu.iommus.iotlb import Iotlb, IotlbEntry
from emu.iommus.paths import UNTRANSLATED, Tables
from emu.iommus.requests import Request
from emu.units import Maddr


class PassThrough(Operation[IotlbEntry | None]):
    """Let a request through untranslated; None if what permitted it has been dropped since.

    Args:
        tables: the permissions; tables of no level.
        is_void: whether what permitted it has been dropped.
    """

    __slots__ = ("entry", "iotlb", "is_void", "request")

    event = "walk.pass_through"

    def __init__(self, iotlb: Iotlb, request: Request, tables: Tables, is_void: Callable[[Request], bool]) -> None:
        self.iotlb = iotlb
        self.request = request
        self.is_void = is_void
        identity = Translation(0, DFN_BITS, tables.read, tables.write, Maddr(0))
        reads = tuple(request.reads)
        self.entry: IotlbEntry | None = IotlbEntry(request.user, tables.tag, request.dfn, identity, reads)

    def accesses(self) -> Iterable[Access]:
        return self.iotlb.walk_accesses(self.request.dfn, self.request.reads)

    def perform(self, step: int) -> IotlbEntry | None:
        if self.is_void(self.request):
            self.entry = None
        else:
            self.request.translate(UNTRANSLATED)
        return self.entry

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        event = "walk.void" if self.entry is None else self.event
        return event, {"iommu": self.iotlb.unit, "dfn": self.request.dfn}
