"""Devices: PCI functions that access memory by DMA.

One access is a lookup in the IOTLB, on a miss a walk of one step a level and a fill, then the access itself. A device
waits until its access is made. A posted write is an exception: the root complex holds it, commits its posted writes in
order, and the device goes on.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import attrs

from emu.engine import Access, Choose, Kind, Latch, Operation, Wait
from emu.errors import ScenarioError
from emu.iommus.iotlb import DFN_MAX, Fill, FindRoom, IotlbEntry, Key
from emu.iommus.requests import Request
from emu.iommus.unit import Unit
from emu.memory import WORDS, word_number
from emu.units import Dfn, check_frame, frame_address, parse_source_id

WORD_MAX = (1 << 64) - 1

Result = TypeVar("Result")


class Watcher(Protocol):
    """A check of the accesses that devices make."""

    def reads(self, unit: Unit, request: Request, entry: IotlbEntry | None) -> Iterable[Access]:
        """Return the reads of `committed`; the entry is None where the walk found no translation: of `refused`."""

    def committed(self, unit: Unit, request: Request, entry: IotlbEntry, step: int) -> None:
        """Judge an access that was made, or refused, through an entry."""

    def refused(self, unit: Unit, request: Request, step: int) -> None:
        """Judge an access that was refused because its walk found no translation."""


class AssignmentJudge(Protocol):
    """A check of the units when a device has changed its domain."""

    def reads(self, device: "Device") -> Iterable[Access]:
        """Return the reads of `handed_over`."""

    def handed_over(self, device: "Device", step: int) -> None:
        """Judge a device at the step at which it was given to `device.assigned_to`, or taken away."""


class ProgramWrite(Operation[int | None]):
    """The device's driver writes an access into the device's queue; return the domain of that driver."""

    __slots__ = ("device", "dfn", "domain")

    event = "dma.program"

    saved_as = "Program"

    def __init__(self, device: "Device", dfn: Dfn) -> None:
        self.device = device
        self.dfn = dfn
        self.domain: int | None = None

    def accesses(self) -> Iterable[Access]:
        return (self.device.driver_access(Kind.READ),)

    def perform(self, step: int) -> int | None:
        self.domain = self.device.assigned_to
        return self.domain

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"dfn": self.dfn, "domain": self.domain}


class End(Operation[Result]):
    """Make an access or refuse it, unless its request was recalled: a recalled access begins again."""

    __slots__ = ("device", "entry", "is_made", "request")

    def __init__(self, device: "Device", request: Request, entry: IotlbEntry | None) -> None:
        self.device = device
        self.request = request
        self.entry = entry
        self.is_made = False

    def accesses(self) -> Iterable[Access]:
        yield self.device.in_flight(self.request)
        yield self.request.committed.touch
        for watcher in self.device.watchers:
            yield from watcher.reads(self.device.unit, self.request, self.entry)

    def close(self, step: int) -> None:
        """End the request, and tell the watchers by which entry it was made or refused."""
        unit = self.device.unit
        for watcher in self.device.watchers:
            if self.entry is None:
                watcher.refused(unit, self.request, step)
            else:
                watcher.committed(unit, self.request, self.entry, step)
        unit.requests.close(self.request, step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        event, keys = self.done() if self.is_made else ("dma.again", {"dfn": self.request.dfn})
        return event, {"iommu": self.device.unit.name, **keys}

    def done(self) -> tuple[str, dict[str, Any]]:
        """Return the event that the operation was, and its keys.

        Raises:
            NotImplementedError: if a subclass leaves it out.
        """
        raise NotImplementedError


class Commit(End[int]):
    """Read or write the first word of the frame that a request was translated to."""

    __slots__ = ("mfn", "tag", "value")

    def __init__(self, device: "Device", request: Request, entry: IotlbEntry, value: int) -> None:
        super().__init__(device, request, entry)
        self.mfn, self.tag = entry.frame(request.dfn), entry.tag
        self.value = value

    def accesses(self) -> Iterable[Access]:
        kind = Kind.WRITE if self.request.is_write else Kind.READ
        yield Access.to(WORDS, word_number(frame_address(self.mfn)), kind)
        yield from super().accesses()

    def perform(self, step: int) -> int:
        address, memory = frame_address(self.mfn), self.device.unit.memory
        self.is_made = not self.request.is_recalled
        if not self.is_made:
            return 0
        if self.request.is_write:
            memory.put(address, self.value, step=step)
        else:
            self.value = memory.peek(address)
        self.close(step)
        return self.value

    def done(self) -> tuple[str, dict[str, Any]]:
        event = "dma.write" if self.request.is_write else "dma.read"
        return event, {"tag": self.tag, "dfn": self.request.dfn, "mfn": self.mfn, "value": self.value}


class Refuse(End[None]):
    """Refuse an access: there is no translation, or none that permits the access.

    A walk that found no translation and was voided meanwhile begins again.
    """

    __slots__ = ()

    def accesses(self) -> Iterable[Access]:
        yield from super().accesses()
        if self.entry is None:
            yield from self.device.unit.iotlb.walk_accesses(self.request.dfn, self.request.reads)

    def perform(self, step: int) -> None:
        is_void = self.entry is None and self.device.unit.is_void(self.request)
        self.is_made = not (self.request.is_recalled or is_void)
        if self.is_made:
            self.close(step)

    def done(self) -> tuple[str, dict[str, Any]]:
        return "dma.fault", {"dfn": self.request.dfn, "access": "write" if self.request.is_write else "read"}


class Post(Operation[None]):
    """Leave a translated write to the root complex."""

    __slots__ = ("device", "entry", "request", "slot", "value")

    event = "dma.post"

    def __init__(self, device: "Device", request: Request, entry: IotlbEntry | None, value: int) -> None:
        self.device = device
        self.request = request
        self.entry = entry
        self.value = value
        self.slot = len(device.posted)

    def accesses(self) -> Iterable[Access]:
        return (self.device.posting(self.slot).touch._replace(kind=Kind.WRITE),)

    def perform(self, step: int) -> None:
        self.device.posted.append((self.request, self.entry, self.value))
        self.device.posting(self.slot).set(step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"iommu": self.device.unit.name, "dfn": self.request.dfn}


@attrs.define(eq=False)
class Device:
    """A PCI function behind a unit.

    Attributes:
        bdf: its name, bus:device.function.
        watchers: the checks of its accesses.
        judges: the checks of its changes of domain.
        assigned_to: the domain whose driver programs it; None before it is assigned to one.
        assigned_before: the domains that it was assigned to earlier.
        posted: the writes left to the root complex, each with its translation; None if the translation faults.
        postings: latches "posted write n", for each number that an agent has asked about.
        pushed: how many posted writes a read has pushed out.
        may_post: an agent commits the posted writes.
        first_request: the number of its first request.
    """

    bdf: str
    unit: Unit
    watchers: Sequence[Watcher] = ()
    assigned_to: int | None = None
    judges: Sequence[AssignmentJudge] = ()
    assigned_before: list[int] = attrs.field(factory=list)
    posted: list[tuple[Request, IotlbEntry | None, int]] = attrs.field(factory=list)
    postings: dict[int, Latch] = attrs.field(factory=dict)
    pushed: int = 0
    may_post: bool = False
    first_request: int = 0

    @property
    def source_id(self) -> int:
        """The source-id of its requests."""
        return parse_source_id(self.bdf)

    def hand_over(self, domain: int | None) -> None:
        """Let the driver of this domain program the device; with None, no driver."""
        if self.assigned_to is not None and self.assigned_to != domain:
            self.assigned_before.append(self.assigned_to)
        self.assigned_to = domain

    def driver_access(self, kind: Kind) -> Access:
        """Return an access to `assigned_to`."""
        return Access.to(("device",), self.source_id, kind)

    def in_flight(self, request: Request) -> Access:
        """Return the access that orders the end of a request with the invalidations that would wait for it."""
        return self.unit.iotlb.access(request.dfn, request.dfn, Kind.READ, request.user)

    def request(self, dfn: Dfn, *, is_write: bool) -> Request:
        """Return a new request to a page.

        Raises:
            ScenarioError: if that is none.
        """
        return self.unit.requests.open(
            self.source_id, check_frame("dfn", dfn), is_write=is_write, first=self.first_request
        )

    def posting(self, slot: int) -> Latch:
        """Return the latch that is set when write number `slot` is posted."""
        if slot not in self.postings:
            touch = Access.to(("posted", self.bdf), slot, Kind.READ)
            self.postings[slot] = Latch(f"posted write {slot} of {self.bdf}", touch)
        return self.postings[slot]

    async def read(self, dfn: Dfn) -> int | None:
        """Read the first word of a page, after pushing posted writes out; None if the IOMMU faults the access."""
        while self.pushed < len(self.posted):
            request, _, _ = self.posted[self.pushed]
            self.pushed += 1
            await Wait(request.committed)
        return await self.access(dfn, is_write=False, value=0)

    async def write(self, dfn: Dfn, value: int) -> bool:
        """Write the first word of a page; return whether the IOMMU let it through."""
        return await self.access(dfn, is_write=True, value=value & WORD_MAX) is not None

    async def post(self, dfn: Dfn, value: int) -> None:
        """Post a write of the first word of a page: once it is translated the device goes on.

        Raises:
            ScenarioError: if no agent runs the root complex.
        """
        if not self.may_post:
            raise ScenarioError(f'{self.bdf} posts writes: say so, @m.device("{self.bdf}", posts=True)')
        request = self.request(dfn, is_write=True)
        await Post(self, request, await self.translate(request), value & WORD_MAX)

    async def commit_posted(self) -> None:
        """Run the root complex: commit the writes that the device posts, in order."""
        slot = 0
        while True:
            await Wait(self.posting(slot))
            await self.finish(*self.posted[slot])
            slot += 1

    async def write_programmed(self, dfn: Dfn, value: int) -> bool:
        """Have the driver program a write, and make the write later; return whether the IOMMU let it through."""
        domain = await ProgramWrite(self, dfn)
        return await self.access(dfn, is_write=True, value=value & WORD_MAX, programmed_by=domain) is not None

    async def access(self, dfn: Dfn, *, is_write: bool, value: int, programmed_by: int | None = None) -> int | None:
        """Make one access; return the word read or written, None on a fault.

        Args:
            programmed_by: the domain whose driver programmed it, if a driver did.
        """
        request = self.request(dfn, is_write=is_write)
        request.programmed_by = programmed_by
        return await self.finish(request, await self.translate(request), value)

    async def finish(self, request: Request, entry: IotlbEntry | None, value: int) -> int | None:
        """Make a translated access, or fault it; translate it anew as often as its request is recalled."""
        while True:
            result: int | None = None
            if entry is not None and entry.permits(is_write=request.is_write):
                result = await Commit(self, request, entry, value)
            else:
                await Refuse(self, request, entry)
            if request.committed.is_set:
                return result
            request.is_recalled = False
            entry = await self.translate(request)

    async def translate(self, request: Request) -> IotlbEntry | None:
        """Find a request's translation, in the IOTLB or by walks; None where it faults."""
        while True:
            entry = await self.unit.look_up(request)
            if entry is not None:
                return entry
            entry = await self.unit.walk(request)
            if entry is None or await self.fill(request, entry):
                return entry

    async def fill(self, request: Request, entry: IotlbEntry) -> bool:
        """Cache the entry that a walk has found; return whether the entry translates the request.

        A unit may cache the leaf of a superpage as a whole, or only the page of the request (VT-d 6.2.4.1).
        """
        if entry.translation.order and await Choose("cache one page of a superpage", 2):
            entry = entry._replace(is_fractured=True)
        return await Fill(self.unit.iotlb, request, entry, await self.choose_victim(), self.unit.is_void)

    async def choose_victim(self) -> Key | None:
        """Return the entry to evict for the next fill; None while there is room."""
        iotlb = self.unit.iotlb
        if iotlb.capacity is None:
            return None
        keys = await FindRoom(iotlb)
        return keys[await Choose("evict", len(keys), (iotlb.access(0, DFN_MAX, Kind.WRITE),))] if keys else None
