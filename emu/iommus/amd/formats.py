"""AMD-Vi's words, bit for bit: page-table entries, device table entries, commands.

Sections 2.2.3 (page tables), 2.2.2 (device table) and 2.4 (commands); Xen: include/asm-x86/hvm/svm/amd-iommu-defs.h.
"""

from enum import IntEnum
from functools import cache, lru_cache, partial

import attrs

from emu.errors import ScenarioError
from emu.iommus.formats import Entry, TableFormat
from emu.iommus.ring import entry_field
from emu.iommus.settings import FULL_BITS
from emu.units import PAGE_SHIFT, Dfn, Maddr

PRESENT = 1 << 0
NEXT_LEVEL_SHIFT, NEXT_LEVEL_MASK = 9, 7
ADDRESS = ((1 << 52) - 1) & ~0xFFF
FORCE_COHERENT = 1 << 60
READ = 1 << 61
WRITE = 1 << 62
RESERVED = 0x7F << 52
"""Bits 58:52 of an entry, which must be 0."""

LEAF, SIZED_LEAF = 0, 7
"""Next levels that lead to no table: a leaf of its level's size, and a leaf whose address says its size."""

LEVEL_BITS = FULL_BITS
UPPER_BITS = (LEVEL_BITS, LEVEL_BITS, LEVEL_BITS, 7)
"""Each level of a table is indexed by nine bits of the dfn, the sixth by the seven that are left of 64 address bits;
only a setting makes those below a superpage smaller."""

DEPTHS = (1, 6)
LEAF_LEVELS = (1, 2, 3)
"""Levels at which a leaf may stand: 4 KiB, 2 MiB and 1 GiB. The larger sizes that the manual has are not modelled."""

DFN_BITS = 52


def decode_entry(word: int, level: int, bits: int) -> Entry | None:
    """Decode an entry (section 2.2.3): PR, the next level, the address, IR and IW.

    None where the walk ends in a fault: PR is clear, a reserved bit is set, or the next level is none that can follow.

    Args:
        bits: the number of bits of a dfn that index a table below a superpage.
    """
    next_level = (word >> NEXT_LEVEL_SHIFT) & NEXT_LEVEL_MASK
    if not word & PRESENT or word & RESERVED:
        return None
    read, write, address = bool(word & READ), bool(word & WRITE), word & ADDRESS
    if LEAF < next_level < SIZED_LEAF:
        return Entry(Maddr(address), next_level, 0, read, write) if next_level < level else None
    if level not in LEAF_LEVELS:
        return None
    order = bits * (level - 1)
    if next_level == SIZED_LEAF:
        sized = order_of_size(address >> PAGE_SHIFT)
        if not order < sized < order + bits:
            return None
        order = sized
    first = address >> PAGE_SHIFT + order << PAGE_SHIFT + order
    return Entry(Maddr(first), LEAF, order, read, write)


def order_of_size(frame: int) -> int:
    """Return the page order that a frame number says by its lowest zero bit: 1 for 8 KiB, where bit 0 is zero."""
    return (~frame & (frame + 1)).bit_length()


def with_size(frame: int, order: int) -> int:
    """Return a frame number that says a page order of 1 or more: its lowest zero bit is bit order - 1."""
    return frame >> order << order | (1 << order - 1) - 1


def encode_leaf(address: Maddr, *, read: bool, write: bool, level: int = 1, bits: int = LEVEL_BITS) -> int:
    """Return a leaf that maps 4 KiB (level 1), 2 MiB (2) or 1 GiB (3) from an address: PR, FC, IR and IW.

    (Xen: amd/iommu_map.c, set_iommu_pde_present)

    Args:
        bits: the number of bits of a dfn that index a table below a superpage.

    Raises:
        ScenarioError: if there is no leaf at the level, or the address is not aligned to the size.
    """
    if level not in LEAF_LEVELS:
        raise ScenarioError(f"no leaf can stand at level {level}: use 1, 2 or 3")
    size = 1 << PAGE_SHIFT + bits * (level - 1)
    if address % size or not 0 <= address < 1 << 52:
        raise ScenarioError(f"a level-{level} leaf cannot map {address:#x}: align it to {size:#x} below 2^52")
    return PRESENT | address | FORCE_COHERENT | read * READ | write * WRITE


def encode_sized_leaf(address: Maddr, order: int, *, read: bool, write: bool) -> int:
    """Return a leaf that maps 2^order pages and says so by its address (next level 7).

    It must stand in each of the entries whose pages it maps.

    Raises:
        ScenarioError: if no such leaf says this size, or the address is not aligned to it.
    """
    if order % LEVEL_BITS == 0 or not 0 < order < LEVEL_BITS * LEAF_LEVELS[-1]:
        raise ScenarioError(f"no leaf says a size of order {order} by its address: use one that no level has")
    if address % (1 << PAGE_SHIFT + order) or not 0 <= address < 1 << 52:
        raise ScenarioError(f"a leaf of order {order} cannot map {address:#x}: align it to its size below 2^52")
    sized = with_size(address >> PAGE_SHIFT, order) << PAGE_SHIFT
    next_level = SIZED_LEAF << NEXT_LEVEL_SHIFT
    return PRESENT | next_level | sized | FORCE_COHERENT | read * READ | write * WRITE


def encode_table(address: Maddr, next_level: int = 1) -> int:
    """Return an entry that points to a table of a level and permits everything."""
    return PRESENT | next_level << NEXT_LEVEL_SHIFT | (address & ADDRESS) | READ | WRITE


@cache
def amd_format(superpage_bits: int) -> TableFormat:
    """Return the format of host page tables, of one to six levels; an entry may skip levels.

    Args:
        superpage_bits: the number of bits of a dfn that index a table below a superpage.
    """
    index_bits = (superpage_bits, superpage_bits, *UPPER_BITS)
    decode = lru_cache(maxsize=1 << 16)(partial(decode_entry, bits=superpage_bits))
    encode = partial(encode_leaf, bits=superpage_bits)
    return TableFormat(index_bits, DEPTHS, LEAF_LEVELS, decode, encode, encode_table)


AMD_FORMAT = amd_format(LEVEL_BITS)
"""Host page tables as the manual defines them."""

decode_pte = AMD_FORMAT.decode
"""Decodes an entry of `AMD_FORMAT`: (word, level). On level 1 all formats are the same, but for sized leaves."""


@attrs.frozen
class DeviceTableEntry:
    """A device table entry (section 2.2.2.1), as far as translation depends on it.

    Attributes:
        is_valid: V. Where it is clear, requests pass through untranslated.
        translates: TV. Where it is clear in a valid entry, requests are aborted.
        mode: how many levels the tables have; 0: requests pass through as far as IR and IW permit.
        root: the table of the highest level.
        read, write: IR and IW, which each request needs beside the permissions of the entries.
        domain_id: the tag of all that is cached through the entry, 16 bits.
        ats: I: the device may keep a TLB of its own.
    """

    is_valid: bool = True
    translates: bool = True
    mode: int = attrs.field(default=0, validator=[attrs.validators.ge(0), attrs.validators.le(7)])
    root: Maddr = Maddr(0)
    read: bool = True
    write: bool = True
    domain_id: int = attrs.field(default=0, validator=[attrs.validators.ge(0), attrs.validators.le(0xFFFF)])
    ats: bool = False

    @property
    def tag(self) -> int:
        """The domain id."""
        return self.domain_id


VALID, TRANSLATION_VALID = 1 << 0, 1 << 1
MODE_SHIFT, MODE_MASK = 9, 7
ATS = 1 << 32
DOMAIN_ID_MASK = 0xFFFF
DEVICE_RESERVED = 0x7C | 1 << 63
"""The reserved bits of an entry's first word: 6:2 and 63."""


def encode_device_entry(entry: DeviceTableEntry) -> tuple[int, int, int, int]:
    """Return the four words of a device table entry; the last two, for interrupts, are 0."""
    first = entry.is_valid * VALID | entry.translates * TRANSLATION_VALID | entry.mode << MODE_SHIFT
    first |= (entry.root & ADDRESS) | entry.read * READ | entry.write * WRITE
    return first, entry.domain_id | entry.ats * ATS, 0, 0


@lru_cache(maxsize=1 << 12)
def decode_device_entry(bits: int) -> DeviceTableEntry | None:
    """Decode the 256 bits of a device table entry; None where it is not legal, so that requests are aborted.

    The bits of guest translation, page requests, exclusion and interrupts are not modelled and are ignored.
    """
    first, second = bits & ((1 << 64) - 1), (bits >> 64) & ((1 << 64) - 1)
    mode = (first >> MODE_SHIFT) & MODE_MASK
    if first & VALID and (first & DEVICE_RESERVED or mode > DEPTHS[1]):
        return None
    return DeviceTableEntry(
        bool(first & VALID),
        bool(first & TRANSLATION_VALID),
        mode,
        Maddr(first & ADDRESS),
        bool(first & READ),
        bool(first & WRITE),
        second & DOMAIN_ID_MASK,
        bool(second & ATS),
    )


class Opcode(IntEnum):
    """Bits 63:60 of a command (section 2.4)."""

    COMPLETION_WAIT = 1
    INVALIDATE_DEVTAB_ENTRY = 2
    INVALIDATE_IOMMU_PAGES = 3
    INVALIDATE_IOTLB_PAGES = 4
    INVALIDATE_IOMMU_ALL = 8


OPCODE_SHIFT = 60


@attrs.frozen
class CompletionWait:
    """COMPLETION_WAIT (section 2.4.1): it completes after all older commands.

    Attributes:
        store: S: data is written to an address, a multiple of 8.
        interrupt: I: the status bit ComWaitInt is set.
        flush: F: no later command begins before it has completed.
    """

    store_address: Maddr = Maddr(0)
    store_data: int = 0
    store: bool = False
    interrupt: bool = False
    flush: bool = False


@attrs.frozen
class InvalidateDeviceEntry:
    """INVALIDATE_DEVTAB_ENTRY (section 2.4.2): drop the cached entry of a device."""

    device_id: int


@attrs.frozen
class InvalidatePages:
    """INVALIDATE_IOMMU_PAGES (section 2.4.3): drop cached translations of a domain id.

    Attributes:
        order: it covers 2^order pages, and `dfn` is aligned to them; None for all pages.
        directory: PDE: cached entries of higher tables are dropped, too.
    """

    domain_id: int
    dfn: Dfn = Dfn(0)
    order: int | None = 0
    directory: bool = False


@attrs.frozen
class InvalidateDeviceTlb:
    """INVALIDATE_IOTLB_PAGES (section 2.4.4): drop translations from a device's own TLB.

    Attributes:
        order: it covers 2^order pages; None for all pages.
        queue_id, max_pending: how many of them the device takes at a time.
    """

    device_id: int
    dfn: Dfn = Dfn(0)
    order: int | None = 0
    queue_id: int = 0
    max_pending: int = 0


@attrs.frozen
class InvalidateAll:
    """INVALIDATE_IOMMU_ALL (section 2.4.8): drop everything that is cached."""


Command = CompletionWait | InvalidateDeviceEntry | InvalidatePages | InvalidateDeviceTlb | InvalidateAll

ALL_PAGES = (1 << 63) - 1 >> PAGE_SHIFT
"""The page number that stands for all pages: address bits 62:12 are ones (section 2.4.3)."""


field = partial(entry_field, "command")
"""Return a value shifted to its field of a command."""


def encode_command(command: Command) -> int:
    """Return the 128 bits of a command.

    Raises:
        ScenarioError: naming the field that is too wide for its place.
    """
    match command:
        case CompletionWait(address, data, store, interrupt, flush):
            if address % 8 or not 0 <= address < 1 << 52:
                raise ScenarioError(f"a wait cannot store to {address:#x}: align it to 8 bytes below 2^52")
            low = Opcode.COMPLETION_WAIT << OPCODE_SHIFT | address | store | interrupt << 1 | flush << 2
            return low | field("store_data", data, 64, 64)
        case InvalidateDeviceEntry(device_id):
            return Opcode.INVALIDATE_DEVTAB_ENTRY << OPCODE_SHIFT | field("device_id", device_id, 0, 16)
        case InvalidatePages(domain_id, dfn, order, directory):
            low = Opcode.INVALIDATE_IOMMU_PAGES << OPCODE_SHIFT | field("domain_id", domain_id, 32, 16)
            return low | (encode_pages(dfn, order) | directory << 1) << 64
        case InvalidateDeviceTlb(device_id, dfn, order, queue_id, max_pending):
            low = Opcode.INVALIDATE_IOTLB_PAGES << OPCODE_SHIFT | field("queue_id", queue_id, 32, 16)
            low |= field("max_pending", max_pending, 24, 8) | field("device_id", device_id, 0, 16)
            return low | encode_pages(dfn, order) << 64
        case InvalidateAll():
            return Opcode.INVALIDATE_IOMMU_ALL << OPCODE_SHIFT


def encode_pages(dfn: Dfn, order: int | None) -> int:
    """Return the address and the size bit S of an invalidation of pages (section 2.4.3, table on S and the address).

    With S the lowest zero bit of the page number says the size.

    Raises:
        ScenarioError: if no address says the order.
    """
    if order is None:
        return ALL_PAGES << PAGE_SHIFT | 1
    if not 0 <= order < DFN_BITS:
        raise ScenarioError(f"no address of a command says order {order}: use one below {DFN_BITS}, or all pages")
    number = field("dfn", dfn, 0, DFN_BITS)
    return (with_size(number, order) << PAGE_SHIFT | 1) if order else number << PAGE_SHIFT


def decode_pages(word: int) -> tuple[Dfn, int | None]:
    """Return the first dfn and the order of an invalidation of pages; the order of all pages is None."""
    number = word >> PAGE_SHIFT
    if not word & 1:
        return Dfn(number), 0
    order = order_of_size(number)
    return (Dfn(0), None) if order >= DFN_BITS else (Dfn(number >> order << order), order)


def decode_command(bits: int) -> Command | None:
    """Decode 128 bits; None if this model does not execute the opcode."""
    low, high = bits & ((1 << 64) - 1), bits >> 64
    match low >> OPCODE_SHIFT:
        case Opcode.COMPLETION_WAIT:
            address = Maddr(low & ((1 << 52) - 1) & ~7)
            return CompletionWait(address, high, bool(low & 1), bool(low >> 1 & 1), bool(low >> 2 & 1))
        case Opcode.INVALIDATE_DEVTAB_ENTRY:
            return InvalidateDeviceEntry(low & 0xFFFF)
        case Opcode.INVALIDATE_IOMMU_PAGES:
            return InvalidatePages((low >> 32) & DOMAIN_ID_MASK, *decode_pages(high), bool(high >> 1 & 1))
        case Opcode.INVALIDATE_IOTLB_PAGES:
            pages = decode_pages(high)
            return InvalidateDeviceTlb(low & 0xFFFF, *pages, (low >> 32) & 0xFFFF, (low >> 24) & 0xFF)
        case Opcode.INVALIDATE_IOMMU_ALL:
            return InvalidateAll()
    return None
