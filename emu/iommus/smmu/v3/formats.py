"""Words of the SMMUv3, bit for bit: stream table entries, level-1 descriptors of the stream table, commands.

Chapters 5.1 and 5.2 (stream table) and 4.2 to 4.7 (commands) of IHI 0070.
"""

from enum import IntEnum
from functools import lru_cache, partial

import attrs

from emu.iommus.ring import entry_field
from emu.iommus.smmu.formats import encode_control
from emu.units import PAGE_SHIFT, Dfn, Maddr

ENTRY_BYTES = 64
ENTRY_WORDS_USED = 4
"""Words of a stream table entry that stage-2 translation depends on; the other four are 0 here."""

SPLIT = 8
"""The bits of a stream id that index the second level of the stream table (STRTAB_BASE_CFG.SPLIT): a bus has one."""

SPAN, SPAN_MASK = SPLIT + 1, 0x1F
"""Span of a level-1 descriptor, bits 4:0: it leads to 2^(Span - 1) entries; 0 where it leads to none."""

L2_POINTER = ((1 << 52) - 1) & ~0x3F


def encode_l1_descriptor(table: Maddr) -> int:
    """Return a level-1 descriptor that leads to 2^SPLIT entries (chapter 5.1)."""
    return (table & L2_POINTER) | SPAN


def decode_l1_descriptor(word: int) -> Maddr | None:
    """Return the table to which a level-1 descriptor leads; None if it leads to none of 2^SPLIT entries."""
    return Maddr(word & L2_POINTER) if word & SPAN_MASK == SPAN else None


class Config(IntEnum):
    """STE.Config, bits 3:1."""

    ABORT = 0b000
    BYPASS = 0b100
    STAGE_2 = 0b110


VALID = 1 << 0
CONFIG_SHIFT, CONFIG_MASK = 1, 7
SHCFG_INCOMING = 1 << 44
"""STE.SHCFG, bits 109:108: the incoming shareability is used."""

VMID_MASK = 0xFFFF
CONTROL_SHIFT, CONTROL_MASK = 32, 0x7FFFF
"""S2T0SZ to S2PS, bits 178:160: the control of the walks, as `encode_control` has it."""

AA64, PTW, RECORDS_FAULTS = 1 << 51, 1 << 54, 1 << 58
"""S2AA64: the tables are of AArch64. S2PTW: walks do not reach devices. S2R: faults are recorded."""

TABLE_ADDRESS = ((1 << 52) - 1) & ~0xF
"""STE.S2TTB, bits 243:196."""


@attrs.frozen
class StreamTableEntry:
    """A stream table entry (chapter 5.2), as far as stage-2 translation depends on it.

    Attributes:
        is_valid: V. Where it is clear, requests are aborted.
        config: Config; a number that is none of `Config` aborts requests here.
        vmid: S2VMID, the tag of all that is cached through the entry.
        control: S2T0SZ to S2PS, the control of the walks.
        is_aarch64: S2AA64.
        root: S2TTB, the table of the highest level.
    """

    is_valid: bool = True
    config: int = Config.ABORT
    vmid: int = 0
    control: int = 0
    is_aarch64: bool = False
    root: Maddr = Maddr(0)

    @property
    def tag(self) -> int:
        """The VMID."""
        return self.vmid

    @property
    def translates(self) -> bool:
        """Whether requests are translated by tables."""
        return self.is_valid and self.config == Config.STAGE_2


ABORT = StreamTableEntry()
"""An entry that aborts all requests of its stream."""


def translating(vmid: int, ipa_bits: int, root: Maddr) -> StreamTableEntry:
    """Return the entry by which tables for addresses of a width translate."""
    return StreamTableEntry(True, Config.STAGE_2, vmid, encode_control(ipa_bits), True, root)


def encode_entry(entry: StreamTableEntry) -> tuple[int, int, int, int]:
    """Return the first four words of a stream table entry.

    Raises:
        ScenarioError: if the VMID is wider than 16 bits.
    """
    first = entry.is_valid * VALID | entry.config << CONFIG_SHIFT
    if not entry.translates:
        return first, SHCFG_INCOMING, 0, 0
    third = entry_field("stream table entry", "vmid", entry.vmid, 0, 16) | entry.control << CONTROL_SHIFT
    third |= entry.is_aarch64 * AA64 | PTW | RECORDS_FAULTS
    return first, SHCFG_INCOMING, third, entry.root & TABLE_ADDRESS


@lru_cache(maxsize=1 << 12)
def decode_entry(first: int, third: int, fourth: int) -> StreamTableEntry:
    """Decode the words of a stream table entry but the second, on which translation does not depend.

    An entry that does not translate is decoded from its first word alone.
    """
    entry = StreamTableEntry(bool(first & VALID), first >> CONFIG_SHIFT & CONFIG_MASK)
    if not entry.translates:
        return entry
    return StreamTableEntry(
        is_valid=True,
        config=entry.config,
        vmid=third & VMID_MASK,
        control=third >> CONTROL_SHIFT & CONTROL_MASK,
        is_aarch64=bool(third & AA64),
        root=Maddr(fourth & TABLE_ADDRESS),
    )


class Opcode(IntEnum):
    """Bits 7:0 of a command."""

    PREFETCH_CONFIG = 0x01
    CFGI_STE = 0x03
    CFGI_STE_RANGE = 0x04
    TLBI_S12_VMALL = 0x28
    TLBI_S2_IPA = 0x2A
    TLBI_NSNH_ALL = 0x30
    SYNC = 0x46


DFN_BITS = 40
"""The address of a CMD_TLBI_S2_IPA ends with bit 51."""

SIGNAL_SHIFT = 12
SIGNALS_EVENT = 2
"""CS of a CMD_SYNC, bits 13:12: its completion sends an event to CPUs (SIG_SEV)."""

RANGE_ALL, RANGE_MASK = 31, 0x1F
"""Range of a CMD_CFGI_STE_RANGE, bits 68:64: all entries. The command is then called CMD_CFGI_ALL."""


@attrs.frozen
class Sync:
    """CMD_SYNC: it completes after all older commands, and no later one begins before."""


@attrs.frozen
class InvalidateStream:
    """CMD_CFGI_STE: drop the cached entry of a stream.

    Attributes:
        leaf: cached level-1 descriptors may stay.
    """

    stream_id: int
    leaf: bool = True


@attrs.frozen
class InvalidateStreams:
    """CMD_CFGI_ALL: drop all cached entries."""


@attrs.frozen
class InvalidateVmid:
    """CMD_TLBI_S12_VMALL: drop all cached translations of a VMID."""

    vmid: int


@attrs.frozen
class InvalidatePage:
    """CMD_TLBI_S2_IPA: drop the cached translations of a page of a VMID.

    Not modelled: that it reaches what is cached of the rest of a block to which the page belongs, where a unit has
    cached the block in pieces.

    Attributes:
        leaf: cached table entries may stay.
    """

    vmid: int
    dfn: Dfn
    leaf: bool = False


@attrs.frozen
class InvalidateAll:
    """CMD_TLBI_NSNH_ALL: drop all cached translations."""


@attrs.frozen
class Prefetch:
    """CMD_PREFETCH_CONFIG: a hint that the entry of a stream will be used."""

    stream_id: int


Command = Sync | InvalidateStream | InvalidateStreams | InvalidateVmid | InvalidatePage | InvalidateAll | Prefetch

field = partial(entry_field, "command")
"""Return a value shifted to its field of a command."""


def encode_command(command: Command) -> int:
    """Return the 128 bits of a command.

    Raises:
        ScenarioError: naming the field that is too wide for its place.
    """
    match command:
        case Sync():
            bits = Opcode.SYNC | SIGNALS_EVENT << SIGNAL_SHIFT
        case InvalidateStream(stream_id, leaf):
            bits = Opcode.CFGI_STE | field("stream_id", stream_id, 32, 32) | leaf << 64
        case InvalidateStreams():
            bits = Opcode.CFGI_STE_RANGE | RANGE_ALL << 64
        case InvalidateVmid(vmid):
            bits = Opcode.TLBI_S12_VMALL | field("vmid", vmid, 32, 16)
        case InvalidatePage(vmid, dfn, leaf):
            page = field("dfn", dfn, PAGE_SHIFT, DFN_BITS) | leaf
            bits = Opcode.TLBI_S2_IPA | field("vmid", vmid, 32, 16) | page << 64
        case InvalidateAll():
            bits = int(Opcode.TLBI_NSNH_ALL)
        case Prefetch(stream_id):
            bits = Opcode.PREFETCH_CONFIG | field("stream_id", stream_id, 32, 32)
    return bits


def decode_command(bits: int) -> Command | None:
    """Decode 128 bits; None if this model does not execute the command (CERROR_ILL)."""
    low, high = bits & ((1 << 64) - 1), bits >> 64
    stream_id, vmid = low >> 32, low >> 32 & VMID_MASK
    command: Command | None = None
    match low & 0xFF:
        case Opcode.SYNC:
            command = Sync()
        case Opcode.CFGI_STE:
            command = InvalidateStream(stream_id, bool(high & 1))
        case Opcode.CFGI_STE_RANGE if high & RANGE_MASK == RANGE_ALL:
            command = InvalidateStreams()
        case Opcode.TLBI_S12_VMALL:
            command = InvalidateVmid(vmid)
        case Opcode.TLBI_S2_IPA:
            command = InvalidatePage(vmid, Dfn(high >> PAGE_SHIFT & (1 << DFN_BITS) - 1), bool(high & 1))
        case Opcode.TLBI_NSNH_ALL:
            command = InvalidateAll()
        case Opcode.PREFETCH_CONFIG:
            command = Prefetch(stream_id)
    return command
