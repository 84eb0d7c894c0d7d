"""Host memory: 64-bit words in frames, and everything that each word has ever held.

The history of a word says which values a page-table walker could read, and when: from it the ledger
(iommus/ledger.py) knows which translations hardware may still use. A walker may read a value from its store on, because
caches evict lines and buffers drain at any time. It may read the value before until the new value is certainly visible.
Where walkers snoop the CPUs' caches and there is no write buffer, the store itself makes the value visible. Where they
do not snoop, a write-back of the line does; where the chipset has a write buffer, a drain after that.

Not architectural: a walk of the model reads the newest value that is certainly visible. Real hardware may read a newer
value; the ledger allows for both.

Not architectural: frames are allocated from two fixed regions, tables below data, so that "every table word" is one
range of objects. A scenario may name frames below and above these.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any, NamedTuple

from emu.engine import Access, Kind, Latch, Operation, Space
from emu.errors import InternalError, LimitReached, ScenarioError
from emu.units import PAGE_SIZE, WORD_BYTES, Maddr, Mfn, frame_address

WORDS: Space = ("memory",)
"""The space of words as shared objects, numbered by address / 8."""

FIRST_TABLE_FRAME = Mfn(0x100000)  # 4 GiB
FIRST_DATA_FRAME = Mfn(0x180000)  # 6 GiB
FRAMES_MAX = FIRST_DATA_FRAME - FIRST_TABLE_FRAME
TABLE_FRAMES = range(FIRST_TABLE_FRAME, FIRST_DATA_FRAME)
DATA_FRAMES = range(FIRST_DATA_FRAME, FIRST_DATA_FRAME + FRAMES_MAX)
NAMED_FRAMES = (range(1, TABLE_FRAMES.start), range(DATA_FRAMES.stop, 1 << 28))
"""Frames that nobody gets who does not name them: below 4 GiB, but for frame 0, and from 8 GiB to 1 TiB."""

TABLES_PER_OWNER = 1 << 12

WORD_MASK = (1 << 64) - 1
HALF_MASK = (1 << 32) - 1
HALF_BYTES = 4
LINE_BYTES = 64
WORDS_OF_FRAME = PAGE_SIZE // WORD_BYTES


class Version(NamedTuple):
    """A value that a word held.

    Attributes:
        stored: the step of the store; 0 for a value before the first step.
        visible: the step from which no walker reads an older value; infinite until then. A walker may read this value
            from the store on.
    """

    stored: int
    visible: float
    value: int


ZEROED = Version(0, 0, 0)


def word_number(address: int) -> int:
    """Return the number of the word that holds an address, as a shared object of space `WORDS`."""
    return address // WORD_BYTES


TABLE_WORDS = (word_number(frame_address(FIRST_TABLE_FRAME)), word_number(frame_address(FIRST_DATA_FRAME)) - 1)
"""First and last object of the region from which tables are allocated."""


def table_words(owner: int) -> tuple[int, int]:
    """Return the first and last object of the tables of one owner."""
    first = word_number(frame_address(Mfn(FIRST_TABLE_FRAME + owner * TABLES_PER_OWNER)))
    return first, first + TABLES_PER_OWNER * WORDS_OF_FRAME - 1


class Memory:
    """Words by address, with their histories.

    Args:
        is_coherent: walkers snoop the CPUs' caches.
        has_write_buffer: stores on their way to memory wait in the chipset.
        keeps_histories: keep every value of each word; without them a store is visible at once, and only the last value
            is known.

    Attributes:
        dirty: table words of which only the CPUs' caches hold the newest version, with its index.
        buffered: table words in the write buffer, with the index of the version.
        next_data: the frame from which on data frames are free.
        named: the frames that were allocated by their numbers.
    """

    def __init__(
        self, *, is_coherent: bool = True, has_write_buffer: bool = False, keeps_histories: bool = True
    ) -> None:
        self.is_coherent = is_coherent
        self.has_write_buffer = has_write_buffer
        self.keeps_histories = keeps_histories
        self.dirty: dict[int, int] = {}
        self.buffered: dict[int, int] = {}
        self.versions: dict[int, list[Version]] = {}
        self.tables: dict[int, int] = {}
        self.next_data = FIRST_DATA_FRAME
        self.named: list[range] = []
        self.latches: dict[int, list[tuple[int, int, Latch]]] = {}

    def allocate_table(self, owner: int = 0) -> Mfn:
        """Return a zeroed frame for a table that hardware walks.

        Each owner has frames of its own, so an owner's frames do not depend on the other owners.

        Raises:
            LimitReached: if the owner has used all of its frames, or has none.
        """
        number = self.tables[owner] = self.tables.get(owner, -1) + 1
        if number >= TABLES_PER_OWNER or owner >= FRAMES_MAX // TABLES_PER_OWNER:
            raise LimitReached(f"all {TABLES_PER_OWNER} table frames of a domain are in use (limit 'frames')")
        return Mfn(FIRST_TABLE_FRAME + owner * TABLES_PER_OWNER + number)

    def allocate_data(self, page_order: int = 0) -> Mfn:
        """Return the first of 2^page_order zeroed frames, naturally aligned.

        Raises:
            LimitReached: if too few frames are left.
        """
        size = 1 << page_order
        frame = Mfn((self.next_data + size - 1) & ~(size - 1))
        if frame + size > DATA_FRAMES.stop:
            raise LimitReached(f"all {FRAMES_MAX} data frames are in use (limit 'frames'): allocate fewer pages")
        self.next_data = Mfn(frame + size)
        return frame

    def allocate_named(self, first: Mfn, page_order: int = 0) -> None:
        """Take 2^page_order zeroed frames from `first` on.

        Raises:
            ScenarioError: if one of them may not be named, or is in use.
        """
        frames = range(first, first + (1 << page_order))
        if not any(frames.start in region and frames[-1] in region for region in NAMED_FRAMES):
            places = " or ".join(f"{region.start:#x} to {region[-1]:#x}" for region in NAMED_FRAMES)
            raise ScenarioError(f"mfn {first:#x} of order {page_order} cannot be named: name frames from {places}")
        for other in self.named:
            if frames.start < other.stop and other.start < frames.stop:
                raise ScenarioError(f"mfn {max(frames.start, other.start):#x} is allocated already: name another frame")
        self.named.append(frames)

    def history(self, address: int) -> Sequence[Version]:
        """Return every value of the word at an aligned address, oldest first."""
        return self.versions.get(address, (ZEROED,))

    def peek(self, address: int) -> int:
        """Return the present value of a word without a step: for set-up, checks and reports, never for an agent."""
        return self.history(address)[-1].value

    def put(self, address: int, value: int, *, step: int = 0, bits: int = 64) -> None:
        """Make `value` the newest version of a word, or of 32 bits of it; step 0 is before the first step."""
        word, shift = address & ~7, 8 * (address & 4)
        if bits == 32:
            whole = self.peek(word)
            value = (whole & ~(HALF_MASK << shift)) | value << shift
        if step == 0:
            self.versions[word] = [Version(0, 0, value)]
        else:
            self.store(word, value, step)
        for half, awaited, latch in self.latches.get(word, ()):
            if address <= half < address + bits // 8 and (value >> 8 * (half & 4)) & HALF_MASK == awaited:
                latch.set(step)

    def store(self, word: int, value: int, step: int) -> None:
        """Append a version, which is visible at once or when it reaches memory."""
        if not self.keeps_histories:
            self.versions[word] = [Version(step, step, value)]
            return
        history = self.versions.setdefault(word, [ZEROED])
        is_table = TABLE_WORDS[0] <= word_number(word) <= TABLE_WORDS[1]
        if not is_table or (self.is_coherent and not self.has_write_buffer):
            history.append(Version(step, step, value))
            return
        history.append(Version(step, inf, value))
        (self.buffered if self.is_coherent else self.dirty)[word] = len(history) - 1

    def reached(self, address: int, step: int) -> float:
        """Return the step from which no walker reads the value that a store replaced; infinite if one still may."""
        return min((version.visible for version in self.history(address) if version.stored >= step), default=inf)

    def write_back(self, line: int, step: int) -> None:
        """Write a line of the CPUs' caches back: to memory, or into the write buffer."""
        for word in range(line, line + LINE_BYTES, WORD_BYTES):
            index = self.dirty.pop(word, None)
            if index is not None and self.has_write_buffer:
                self.buffered[word] = index
            elif index is not None:
                self.make_visible(word, index, step)

    def drain(self, step: int) -> None:
        """Drain the write buffer into memory."""
        for word, index in self.buffered.items():
            self.make_visible(word, index, step)
        self.buffered.clear()

    def make_visible(self, word: int, index: int, step: int) -> None:
        """Let walkers read a version from now on."""
        self.versions[word][index] = self.versions[word][index]._replace(visible=step)

    def seen(self, address: int) -> int:
        """Return the value of a word that a walker reads now, without a step."""
        return next(version.value for version in reversed(self.history(address)) if version.visible != inf)

    def zero(self, frame: Mfn, step: int) -> None:
        """Clear all words of a frame."""
        first = frame_address(frame)
        for address in range(first, first + PAGE_SIZE, WORD_BYTES):
            if self.peek(address):
                self.put(address, 0, step=step)

    def latch(self, address: Maddr, awaited: int) -> Latch:
        """Return a latch that is set once the 32 bits at an address are `awaited`; it is set now if they are already.

        An agent makes a latch after a step that does not declare a read of the word; only its wait declares the read. A
        store of the value sets the latch, whether before or after that step. The order would matter only if another
        agent overwrote the value before the latch is made. So either the agent has stored to the word in that step,
        which orders the two steps, or meanwhile no agent stores any value but the awaited one.

        Not architectural: the wait ends even if the value is overwritten before the agent goes on.
        """
        check_alignment(address, HALF_BYTES)
        name = f"the 32-bit word at {address:#x} to become {awaited:#x}"
        latch = Latch(name, Access.to(WORDS, word_number(address), Kind.READ))
        since = self.held_since(address, awaited)
        if since is not None:
            latch.set(since)
            return latch
        waiting = [(half, awaited, one) for half, awaited, one in self.latches.get(address & ~7, ()) if not one.is_set]
        self.latches[address & ~7] = [*waiting, (address, awaited, latch)]
        return latch

    def held_since(self, address: int, value: int) -> int | None:
        """Return the step of the store since which the 32 bits at an address are `value`; None if they are not now."""
        since = None
        for version in reversed(self.history(address & ~7)):
            if (version.value >> 8 * (address & 4)) & HALF_MASK != value:
                break
            since = version.stored
        return since


def check_alignment(address: int, size: int) -> None:
    """Refuse an address that is not a multiple of the access size.

    Raises:
        ScenarioError: if it is not a multiple, or not below 2^52.
    """
    if address % size or not 0 <= address < 1 << 52:
        raise ScenarioError(f"address {address:#x} cannot be accessed as {size} bytes: align it and keep it below 2^52")


class WriteBack(Operation[None]):
    """Write the cache line of an address back (clflush)."""

    __slots__ = ("line", "memory")

    event = "line.write_back"
    stores = False  # CPUs read the same values from their caches before and after, so a section's reads stay valid

    def __init__(self, memory: Memory, address: int) -> None:
        self.memory = memory
        self.line = address & -LINE_BYTES

    def accesses(self) -> Iterable[Access]:
        first = word_number(self.line)
        return (Access(WORDS, first, first + LINE_BYTES // WORD_BYTES - 1, Kind.WRITE),)

    def perform(self, step: int) -> None:
        self.memory.write_back(self.line, step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"address": self.line}


class DrainWriteBuffer(Operation[None]):
    """Drain the chipset's write buffer (GCMD.WBF)."""

    __slots__ = ("memory",)

    event = "buffer.drain"
    stores = False  # CPUs read values in the buffer, too

    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    def accesses(self) -> Iterable[Access]:
        return (Access(WORDS, *TABLE_WORDS, Kind.WRITE),)

    def perform(self, step: int) -> None:
        self.memory.drain(step)


class Load(Operation[int]):
    """Read one 64-bit word.

    Args:
        label: the name of its event.
        details: further keys of the event.
    """

    __slots__ = ("address", "details", "label", "memory", "value")

    def __init__(self, memory: Memory, address: int, label: str, details: Mapping[str, Any]) -> None:
        check_alignment(address, WORD_BYTES)
        self.memory = memory
        self.address = address
        self.label = label
        self.details = details
        self.value = 0

    def accesses(self) -> Iterable[Access]:
        return (Access.to(WORDS, word_number(self.address), Kind.READ),)

    def perform(self, step: int) -> int:
        self.value = self.memory.peek(self.address)
        return self.value

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.label, {**self.details, "address": self.address, "value": self.value}


class Store(Operation[int]):
    """Write 32, 64 or 128 bits in one step, and return the old value.

    A store of 32 bits at an address that is 4 modulo 8 writes the word's high half.
    """

    __slots__ = ("address", "bits", "details", "label", "memory", "old", "value")

    def __init__(
        self, memory: Memory, address: int, value: int, bits: int, label: str, details: Mapping[str, Any]
    ) -> None:
        """Prepare the store.

        Raises:
            ScenarioError: if the value does not fit into the bits, or the address is not a multiple of the size.
        """
        check_alignment(address, bits // 8)
        if not 0 <= value < 1 << bits:
            raise ScenarioError(f"{value:#x} does not fit into a store of {bits} bits: store it in parts")
        self.memory = memory
        self.address = address
        self.value = value
        self.bits = bits
        self.label = label
        self.details = details
        self.old = 0

    def accesses(self) -> Iterable[Access]:
        first = word_number(self.address)
        return (Access(WORDS, first, first + (self.bits == 128), Kind.WRITE),)

    def perform(self, step: int) -> int:
        """Write the value.

        Raises:
            InternalError: if the store has another number of bits.
        """
        address, memory = self.address, self.memory
        if self.bits == 64:
            self.old = memory.peek(address)
            memory.put(address, self.value, step=step)
        elif self.bits == 128:
            self.old = memory.peek(address) | memory.peek(address + WORD_BYTES) << 64
            memory.put(address, self.value & WORD_MASK, step=step)
            memory.put(address + WORD_BYTES, self.value >> 64, step=step)
        elif self.bits == 32:
            self.old = (memory.peek(address & ~7) >> 8 * (address & 4)) & HALF_MASK
            memory.put(address, self.value, step=step, bits=32)
        else:
            raise InternalError(f"a store of {self.bits} bits")
        return self.old

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys = {**self.details, "address": self.address}
        if self.bits == 128:
            return self.label, {**keys, "value": f"{self.value:#034x}"}
        return self.label, {**keys, "old": self.old, "value": self.value}
