"""VT-d's words, bit for bit: second-level entries, root and context entries, invalidation descriptors.

Sections 9.1 (root entry), 9.3 (context entry), 9.8 (second-level paging entries) and 6.5.2 (descriptors).
"""

from enum import IntEnum
from functools import cache, lru_cache, partial

import attrs

from emu.errors import ScenarioError
from emu.iommus.formats import Entry, TableFormat
from emu.iommus.ring import entry_field
from emu.iommus.settings import FULL_BITS
from emu.units import PAGE_SHIFT, PAGE_SIZE, Dfn, Maddr

READ = 1 << 0
WRITE = 1 << 1
SUPERPAGE = 1 << 7
SNOOP = 1 << 11
ADDRESS = ((1 << 52) - 1) & ~0xFFF

LEVEL_BITS = FULL_BITS
"""Each level of a table is indexed by nine bits of the dfn; only a setting makes those below a superpage smaller."""

SUPERPAGE_LEVELS = (2, 3)
"""Levels at which a leaf may stand beside level 1: 2 MiB and 1 GiB."""

DEPTHS = (3, 4)
"""A domain has three or four levels of tables: adjusted guest widths of 39 and 48 bits (AW 1 and 2)."""

CONTEXT_TABLE = ADDRESS
DID_SHIFT, DID_MASK = 8, 0xFFFF


def decode_entry(word: int, level: int, bits: int) -> Entry | None:
    """Decode a second-level entry (section 9.8). Present means that R or W is set; there is no other bit for it.

    A superpage's address bits below its size are reserved and read as zero here.

    Args:
        bits: the number of bits of a dfn that index a table below a superpage.
    """
    if not word & (READ | WRITE):
        return None
    is_leaf = level == 1 or (level in SUPERPAGE_LEVELS and bool(word & SUPERPAGE))
    address, read, write = word & ADDRESS, bool(word & READ), bool(word & WRITE)
    if not is_leaf:
        return Entry(Maddr(address), level - 1, 0, read, write)
    order = bits * (level - 1)
    return Entry(Maddr(address >> PAGE_SHIFT + order << PAGE_SHIFT + order), 0, order, read, write)


def encode_leaf(
    address: Maddr, *, read: bool, write: bool, snoop: bool = False, level: int = 1, bits: int = LEVEL_BITS
) -> int:
    """Return a leaf that maps 4 KiB (level 1), 2 MiB (2) or 1 GiB (3) from an address.

    Args:
        bits: the number of bits of a dfn that index a table below a superpage.

    Raises:
        ScenarioError: if there is no leaf at the level, or the address is not aligned to the size.
    """
    if level not in {1, *SUPERPAGE_LEVELS}:
        raise ScenarioError(f"no leaf can stand at level {level}: use 1, 2 or 3")
    size = PAGE_SIZE << bits * (level - 1)
    if address % size or not 0 <= address < 1 << 52:
        raise ScenarioError(f"a level-{level} leaf cannot map {address:#x}: align it to {size:#x} below 2^52")
    superpage = SUPERPAGE if level in SUPERPAGE_LEVELS else 0
    return address | superpage | read * READ | write * WRITE | snoop * SNOOP


def encode_table(address: Maddr, next_level: int = 1) -> int:
    """Return an entry that points to a table and permits everything. The word does not say the table's level."""
    return (address & ADDRESS) | READ | WRITE


@cache
def vtd_format(superpage_bits: int) -> TableFormat:
    """Return the format of second-level tables. The manual defines five levels; this model's units have three or four.

    Args:
        superpage_bits: the number of bits of a dfn that index a table below a superpage.
    """
    index_bits = (*(superpage_bits for _ in SUPERPAGE_LEVELS), *(LEVEL_BITS,) * 3)
    decode = lru_cache(maxsize=1 << 16)(partial(decode_entry, bits=superpage_bits))
    encode = partial(encode_leaf, bits=superpage_bits)
    return TableFormat(index_bits, DEPTHS, (1, *SUPERPAGE_LEVELS), decode, encode, encode_table)


VTD_FORMAT = vtd_format(LEVEL_BITS)
"""Second-level tables as the manual defines them."""

decode_pte = VTD_FORMAT.decode
"""Decodes an entry of `VTD_FORMAT`: (word, level). On level 1 all formats are the same."""


def encode_root_entry(context_table: Maddr) -> int:
    """Return the 128-bit root entry of a bus (section 9.1): P, and the context table of the bus."""
    return (context_table & CONTEXT_TABLE) | 1


def decode_root_entry(entry: int) -> Maddr | None:
    """Return the context table that a root entry points to; None where it is not present."""
    return Maddr(entry & CONTEXT_TABLE) if entry & 1 else None


@attrs.frozen
class ContextEntry:
    """A present context entry (section 9.3) with second-level translation (TT 0).

    Attributes:
        did: the domain id that tags entries cached through it, 16 bits.
        root: the table of the highest level.
        levels: 3 (AW 1, 39-bit) or 4 (AW 2, 48-bit).
    """

    did: int = attrs.field(validator=[attrs.validators.ge(0), attrs.validators.le(DID_MASK)])
    root: Maddr
    levels: int = attrs.field(validator=attrs.validators.in_(DEPTHS))


def encode_context_entry(context: ContextEntry) -> int:
    """Return the 128 bits of a context entry: P, TT 0, the root table; AW and the domain id in the high word."""
    low = (context.root & ADDRESS) | 1
    high = (context.levels - 2) | context.did << DID_SHIFT
    return low | high << 64


@lru_cache(maxsize=1 << 12)
def decode_context_entry(entry: int) -> ContextEntry | None:
    """Decode 128 bits; None where P is clear, TT is not 0 or AW is not supported: a device faults there."""
    high = entry >> 64
    levels = (high & 7) + 2
    if not entry & 1 or (entry >> 2) & 3 or levels not in DEPTHS:
        return None
    return ContextEntry((high >> DID_SHIFT) & DID_MASK, Maddr(entry & ADDRESS), levels)


class DescriptorType(IntEnum):
    """Bits 3:0 of a descriptor (section 6.5.2)."""

    CONTEXT = 1
    IOTLB = 2
    WAIT = 5


class Granularity(IntEnum):
    """Bits 5:4 of a context or IOTLB invalidation descriptor. The narrowest is the device, or the page."""

    GLOBAL = 1
    DOMAIN = 2
    NARROW = 3


@attrs.frozen
class ContextInvalidation:
    """Context-cache invalidation descriptor (section 6.5.2.1).

    Attributes:
        function_mask: FM: how many function bits of the source-id are ignored, from bit 2 down: 0 to 3.
    """

    granularity: Granularity
    did: int = 0
    source_id: int = 0
    function_mask: int = 0


@attrs.frozen
class IotlbInvalidation:
    """IOTLB invalidation descriptor (section 6.5.2.3).

    Attributes:
        address_mask: AM: 2^AM pages, and `dfn` is aligned to them.
        leaf_only: IH: only leaf entries have changed, cached table entries may stay.
        drain_reads, drain_writes: DR and DW.
    """

    granularity: Granularity
    did: int = 0
    dfn: Dfn = Dfn(0)
    address_mask: int = 0
    leaf_only: bool = False
    drain_reads: bool = True
    drain_writes: bool = True


@attrs.frozen
class WaitDescriptor:
    """Invalidation wait descriptor (section 6.5.2.8).

    Attributes:
        status_address: the address that the status data is written to if `status_write` (SW) is set; a multiple of 4.
        fence: FN: descriptors behind it do not start before it has completed.
        interrupt: IF: raise the completion event.
    """

    status_address: Maddr = Maddr(0)
    status_data: int = 0
    status_write: bool = True
    fence: bool = True
    interrupt: bool = False


Descriptor = ContextInvalidation | IotlbInvalidation | WaitDescriptor


field = partial(entry_field, "descriptor")
"""Return a value shifted to its field of a descriptor."""


def encode_descriptor(descriptor: Descriptor) -> int:
    """Return the 128 bits of a descriptor.

    Raises:
        ScenarioError: naming the field that is too wide for its place.
    """
    match descriptor:
        case ContextInvalidation(granularity, did, source_id, function_mask):
            kind, mask = DescriptorType.CONTEXT | granularity << 4, field("function_mask", function_mask, 48, 2)
            return kind | field("did", did, 16, 16) | field("source_id", source_id, 32, 16) | mask
        case IotlbInvalidation(granularity, did, dfn, address_mask, leaf_only, reads, writes):
            low = DescriptorType.IOTLB | granularity << 4 | writes << 6 | reads << 7 | field("did", did, 16, 16)
            high = field("address_mask", address_mask, 0, 6) | leaf_only << 6 | field("dfn", dfn, 12, 52)
            return low | high << 64
        case WaitDescriptor(address, data, status_write, fence, interrupt):
            low = DescriptorType.WAIT | interrupt << 4 | status_write << 5 | fence << 6
            return low | field("status_data", data, 32, 32) | field("status_address", address, 0, 64) << 64


def decode_descriptor(entry: int) -> Descriptor | None:
    """Decode 128 bits; None if this model does not execute the type or the granularity."""
    low, high = entry & ((1 << 64) - 1), entry >> 64
    kind, granularity = low & 0xF, (low >> 4) & 3
    if kind == DescriptorType.WAIT:
        return WaitDescriptor(Maddr(high & ~3), low >> 32, bool(low >> 5 & 1), bool(low >> 6 & 1), bool(low >> 4 & 1))
    if not granularity:
        return None
    did = (low >> 16) & DID_MASK
    if kind == DescriptorType.CONTEXT:
        return ContextInvalidation(Granularity(granularity), did, (low >> 32) & 0xFFFF, (low >> 48) & 3)
    if kind == DescriptorType.IOTLB:
        dfn = Dfn(high >> 12) if granularity == Granularity.NARROW else Dfn(0)
        return IotlbInvalidation(
            Granularity(granularity),
            did,
            dfn,
            high & 0x3F,
            bool(high >> 6 & 1),
            drain_reads=bool(low >> 7 & 1),
            drain_writes=bool(low >> 6 & 1),
        )
    return None
