"""The invalidation queue (section 6.5.2), with its registers IQA, IQH and IQT."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import attrs

from emu.iommus.ring import Fetch, Ring
from emu.iommus.vtd.formats import (
    ContextInvalidation,
    Descriptor,
    Granularity,
    IotlbInvalidation,
    WaitDescriptor,
    decode_descriptor,
)
from emu.units import Maddr

ENTRIES = 256
"""Descriptors in a ring of one page, 16 bytes each (IQA_REG.QS = 0): the smallest that there is."""


@attrs.define(eq=False)
class InvalidationQueue(Ring[Descriptor]):
    """The ring. Not architectural: with fewer slots than `ENTRIES` it is soon full.

    A slot's object stands also for whether the wait behind it is posted and does not fence.

    Attributes:
        segment: the first slot behind the last wait descriptor that was posted.
        unfenced: the slots of all segments whose wait does not fence.
    """

    segment: int = 0
    unfenced: set[int] = attrs.field(factory=set)

    name = "invalidation queue"
    command = "descriptor"
    translations: ClassVar = ("iotlb",)

    def decode(self, bits: int) -> Descriptor | None:
        """Decode 128 bits; None if they are no valid descriptor."""
        return decode_descriptor(bits)

    def status_address(self, command: Descriptor) -> Maddr | None:
        """Return the status address of a wait descriptor that asks for a status write (SW)."""
        return command.status_address if isinstance(command, WaitDescriptor) and command.status_write else None

    def about(self, command: Descriptor) -> dict[str, Any]:
        """Return a descriptor as keys of an event."""
        about: dict[str, Any]
        match command:
            case IotlbInvalidation(granularity, did, dfn, mask, leaf_only):
                about = {"granularity": granularity.name.lower(), "tag": did}
                if granularity is Granularity.NARROW:
                    about |= {"granularity": "page", "dfn": dfn, "page_order": mask, "leaf_only": leaf_only}
                return {"descriptor": "iotlb", **about}
            case ContextInvalidation(granularity, did, source_id):
                about = {"granularity": granularity.name.lower(), "tag": did}
                if granularity is Granularity.NARROW:
                    about |= {"granularity": "device", "source_id": source_id}
                return {"descriptor": "context", **about}
            case WaitDescriptor(address):
                return {"descriptor": "wait", "address": address}

    def segments(self, slots: range) -> Iterator[tuple[range, bool]]:
        """Yield, for each wait among slots being posted, the slots of its segment, and whether the wait fences.

        In a synchronous unit every wait fences.
        """
        first = self.segment
        for slot in slots:
            descriptor = self.command_in(slot)
            if isinstance(descriptor, WaitDescriptor):
                yield range(first, slot + 1), descriptor.fence or self.at_once is not None
                first = slot + 1

    def first_touched(self, slots: range) -> int:
        """Return the first slot of the first segment that these slots complete with a wait that does not fence."""
        return min([slots.start, *(segment.start for segment, fences in self.segments(slots) if not fences)])

    def post(self, slots: range, step: int) -> None:
        """Hand slots to the hardware."""
        for segment, fences in self.segments(slots):
            self.segment = segment.stop
            if not fences:
                self.unfenced.update(segment)
        super().post(slots, step)


class FetchDescriptor(Fetch[Descriptor]):
    """Fetch the next descriptor once it is posted.

    Attributes:
        is_unfenced: the descriptor is a wait that does not fence, or an invalidation whose posted wait does not.
    """

    __slots__ = ("is_unfenced", "unfenced")

    saved_as = Fetch.__name__  # the name that saved schedules have for it

    def __init__(self, queue: InvalidationQueue, slot: int) -> None:
        super().__init__(queue, slot)
        self.unfenced = queue.unfenced
        self.is_unfenced = False

    def perform(self, step: int) -> None:
        super().perform(step)
        self.is_unfenced = self.slot in self.unfenced

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        event, keys = super().describe()
        return event, {**keys, "fence": False} if self.is_unfenced else keys
