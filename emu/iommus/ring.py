"""A ring in memory by which software hands commands to a unit, with its head and tail registers, whatever the vendor.

A command is 128 bits. The vendor says how it is encoded, and what else posting it touches.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import attrs

from emu.engine import Access, Kind, Latch, Operation, Space, Wait
from emu.errors import ScenarioError
from emu.iommus.counters import Counters
from emu.iommus.status import StatusWatcher, Unwatched
from emu.memory import WORDS, Memory, word_number
from emu.units import WORD_BYTES, Maddr

SLOT_BYTES = 16
TAIL, FIRST_SLOT = 0, 1

Command = TypeVar("Command")


class Engine(Protocol):
    """Executes commands in the step that posts them."""

    def accesses(self, slots: range) -> Iterable[Access]:
        """Return every access that executing these slots may make."""

    def accesses_of(self, slot: int, command: Any) -> Iterable[Access]:
        """Return every access that executing a command may make, once a slot has it."""

    def execute(self, step: int) -> None:
        """Execute all posted commands."""


@attrs.define(eq=False)
class Ring(Generic[Command]):
    """The ring in memory, and its base, head and tail registers.

    Attributes:
        memory: the memory that holds the ring.
        base: the address of the ring.
        entries: how many slots the ring has.
        at_once: executes commands in the step that posts them; None if the unit has an agent for it.
        tail: the tail register as an index: the slot that software fills next.
        count: how many slots were ever posted.
        fetched_at: the step at which hardware fetched each slot.
        posted: latches "slot n is posted", n counted from the start and never wrapped.
        taken: latches "slot n is fetched", made when one is first asked for.
        error: hardware has met a command that it cannot execute, and has stopped.
        status_watcher: judges the status words of waits.
        counters: count the commands, and the accesses to the registers.
    """

    unit: str
    memory: Memory
    base: Maddr
    entries: int
    at_once: Engine | None = None
    tail: int = 0
    count: int = 0
    fetched_at: list[int] = attrs.field(factory=list)
    posted: dict[int, Latch] = attrs.field(factory=dict)
    taken: dict[int, Latch] = attrs.field(factory=dict)
    error: bool = False
    status_watcher: StatusWatcher = attrs.field(factory=Unwatched)
    counters: Counters = attrs.field(factory=Counters)

    name = "ring"
    """The vendor's name for it."""

    command = "command"
    """The vendor's name for what a slot holds."""

    translations: ClassVar[tuple[str, ...]] = ()
    """What `about` calls the commands that invalidate cached translations."""

    tail_is_register = True
    """Whether software reads the tail from its register; else it has a copy of its own."""

    spare: ClassVar[int] = 1
    """How many slots a full ring leaves empty."""

    @property
    def fetched(self) -> int:
        """How many slots hardware has fetched."""
        return len(self.fetched_at)

    @property
    def space(self) -> Space:
        """The space of the shared objects: the tail register, then every slot ever posted.

        A slot's object stands for whether it is posted, and for what the vendor adds.
        """
        return ("queue", self.unit)

    def decode(self, bits: int) -> Command | None:
        """Decode the 128 bits of a slot; None if they are no valid command.

        Raises:
            NotImplementedError: if a subclass leaves it out.
        """
        raise NotImplementedError

    def about(self, command: Command) -> dict[str, Any]:
        """Return a command as keys of an event.

        Raises:
            NotImplementedError: if a subclass leaves it out.
        """
        raise NotImplementedError

    def status_address(self, command: Command) -> Maddr | None:
        """Return the address at which a command asks for a status word; None if it asks for none.

        Raises:
            NotImplementedError: if a subclass leaves it out.
        """
        raise NotImplementedError

    def first_touched(self, slots: range) -> int:
        """Return the first slot of which posting these slots changes the object."""
        return slots.start

    def fetch_access(self, slot: int, kind: Kind) -> Access:
        """Return the access to the state of slot number `slot`: fetched or not."""
        return Access.to((*self.space, "fetched"), slot, kind)

    @property
    def awaited(self) -> int:
        """The slot whose fetch makes room for one more command; negative if there always was room."""
        return self.count + self.spare - self.entries

    def room(self) -> Latch | None:
        """Read the head register; return the latch that is set when there is room for one more command.

        None if there always was.
        """
        self.counters.register_reads += 1
        return (
            self.taken_latch(self.awaited, f"a free slot in {self.unit}'s {self.name}") if self.awaited >= 0 else None
        )

    def taken_latch(self, slot: int, name: str) -> Latch:
        """Return the latch that is set when hardware has fetched slot number `slot`; a new one gets the name."""
        if slot not in self.taken:
            latch = self.taken[slot] = Latch(name, self.fetch_access(slot, Kind.READ))
            if self.fetched > slot:
                latch.set(self.fetched_at[slot])
        return self.taken[slot]

    def fetch(self, slot: int, command: Command | None, step: int) -> None:
        """Move the head past a slot at the step at which hardware has fetched its command; None is no valid one."""
        self.error = command is None
        self.move_head(slot, step)

    def move_head(self, slot: int, step: int) -> None:
        """Move the head past a slot."""
        self.fetched_at.append(step)
        if slot in self.taken:
            self.taken[slot].set(step)

    def slot_access(self, slot: int, kind: Kind) -> Access:
        """Return the access to the slot posted as number `slot`."""
        return Access.to(self.space, FIRST_SLOT + slot, kind)

    def slot_address(self, slot: int) -> Maddr:
        """Return the address of a slot's command; slots wrap round."""
        return Maddr(self.base + SLOT_BYTES * (slot % self.entries))

    def command_in(self, slot: int) -> Command | None:
        """Return the command in a slot as hardware reads it now; None if its words are no valid one."""
        address = self.slot_address(slot)
        return self.decode(self.memory.seen(address) | self.memory.seen(address + WORD_BYTES) << 64)

    def command_written(self, slot: int) -> Command | None:
        """Return the command that software has written into a slot, whether or not it has left the CPUs' caches."""
        address = self.slot_address(slot)
        return self.decode(self.memory.peek(address) | self.memory.peek(address + WORD_BYTES) << 64)

    def post(self, slots: range, step: int) -> None:
        """Hand slots to the hardware."""
        for slot in slots:
            self.latch(slot).set(step)
            self.count_command(slot)
        self.count = slots.stop
        self.tail = slots.stop % self.entries

    def count_command(self, slot: int) -> None:
        """Count the command in a slot, by its kind and range."""
        command = self.command_written(slot)
        about = {} if command is None else self.about(command)
        name = about.get("descriptor", "invalid")
        pages = f"order {about['page_order']}" if "page_order" in about else about.get("granularity", "")
        self.counters.post(f"{name} {pages}".rstrip(), is_flush=name in self.translations)

    def latch(self, slot: int) -> Latch:
        """Return the latch that is set when slot number `slot` is posted."""
        if slot not in self.posted:
            touch = self.slot_access(slot, Kind.READ)
            self.posted[slot] = Latch(f"{self.command} {slot} of {self.unit}'s {self.name}", touch)
        return self.posted[slot]


class ReadTail(Operation[int]):
    """Read the tail register: the index of the slot to fill."""

    __slots__ = ("queue", "value")

    event = "queue.tail"

    def __init__(self, queue: Ring[Any]) -> None:
        self.queue = queue
        self.value = 0

    def accesses(self) -> Iterable[Access]:
        return (Access.to(self.queue.space, TAIL, Kind.READ),)

    def perform(self, step: int) -> int:
        self.value = self.queue.tail
        self.queue.counters.register_reads += self.queue.tail_is_register
        return self.value

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"iommu": self.queue.unit, "slot": self.value}


class ReadHead(Operation[bool]):
    """Read the head register, and return whether the ring is full."""

    __slots__ = ("is_full", "queue")

    event = "queue.head"

    def __init__(self, queue: Ring[Any]) -> None:
        self.queue = queue
        self.is_full = False

    def accesses(self) -> Iterable[Access]:
        awaited = self.queue.awaited
        return (self.queue.fetch_access(awaited, Kind.READ),) if awaited >= 0 else ()

    def perform(self, step: int) -> bool:
        self.is_full = self.queue.fetched <= self.queue.awaited
        self.queue.counters.register_reads += 1
        return self.is_full

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"iommu": self.queue.unit, "full": self.is_full}


class WriteTail(Operation[None]):
    """Write the tail register: hand every slot up to the new tail to the hardware.

    No other agent changes a slot between its filling and its fetch, so the words of slots are not declared.
    """

    __slots__ = ("queue", "slot", "value")

    event = "queue.post"

    def __init__(self, queue: Ring[Any], value: int) -> None:
        self.queue = queue
        self.value = value
        self.slot = queue.count

    @property
    def slots(self) -> range:
        """The slots up to the new tail."""
        queue = self.queue
        return range(queue.count, queue.count + (self.value - queue.tail) % queue.entries)

    def accesses(self) -> Iterable[Access]:
        queue, slots = self.queue, self.slots
        first = queue.first_touched(slots)
        yield Access.to(queue.space, TAIL, Kind.WRITE)
        yield Access(queue.space, FIRST_SLOT + first, FIRST_SLOT + slots.stop - 1, Kind.WRITE)
        for command in filter(None, map(queue.command_in, slots)):
            address = queue.status_address(command)
            if address is not None:
                yield from queue.status_watcher.reads(address)
        if queue.at_once is not None:
            yield from queue.at_once.accesses(slots)

    def perform(self, step: int) -> None:
        queue, slots = self.queue, self.slots
        self.slot = slots.start
        queue.counters.register_writes += 1
        queue.post(slots, step)
        if queue.at_once is not None:
            queue.at_once.execute(step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"iommu": self.queue.unit, "slot": self.slot}


class Look(Operation[bool]):
    """Look whether a slot is posted."""

    __slots__ = ("found", "queue", "slot")

    event = "queue.look"

    def __init__(self, queue: Ring[Any], slot: int) -> None:
        self.queue = queue
        self.slot = slot
        self.found = False

    def accesses(self) -> Iterable[Access]:
        return (self.queue.slot_access(self.slot, Kind.READ),)

    def perform(self, step: int) -> bool:
        self.found = self.slot < self.queue.count
        return self.found

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"iommu": self.queue.unit, "slot": self.slot, "found": self.found}


class Fetch(Wait, Generic[Command]):
    """Fetch the next command once it is posted."""

    __slots__ = ("command", "queue", "slot")

    event = "queue.fetch"

    def __init__(self, queue: Ring[Command], slot: int) -> None:
        super().__init__(queue.latch(slot))
        self.queue = queue
        self.slot = slot
        self.command: Command | None = None

    def accesses(self) -> Iterable[Access]:
        first = word_number(self.queue.slot_address(self.slot))
        yield from super().accesses()
        yield Access(WORDS, first, first + 1, Kind.READ)
        yield self.queue.fetch_access(self.slot, Kind.WRITE)

    def perform(self, step: int) -> None:
        self.command = self.queue.command_in(self.slot)
        self.queue.fetch(self.slot, self.command, step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys = {"iommu": self.queue.unit, "slot": self.slot}
        if self.command is None:
            return "queue.error", keys
        return self.event, {**keys, **self.queue.about(self.command)}


def entry_field(entry: str, name: str, value: int, shift: int, width: int) -> int:
    """Return a value shifted to its field of a ring's entry.

    Args:
        entry: what the vendor calls an entry.
        name: what the entry has in the field.
        value: at most `width` bits.
        shift: the field's lowest bit.
        width: the field's number of bits.

    Raises:
        ScenarioError: if the value is wider than the field.
    """
    if not 0 <= value < 1 << width:
        raise ScenarioError(f"{name} {value:#x} does not fit into the {width} bits that a {entry} has for it")
    return value << shift
