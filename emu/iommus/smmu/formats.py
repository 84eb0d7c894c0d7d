"""Words of the SMMU, bit for bit: stage-2 descriptors of the 4 KiB granule, and the fields of its registers.

Levels count from the leaves here: level 1 is the architecture's level 3, and level 4 its level 0. Sources: DDI 0487,
D8.3 (descriptors) and D8.2 (concatenated tables); IHI 0062, chapters 9 to 16 (registers).
"""

from functools import cache, lru_cache, partial

import attrs

from emu.errors import ScenarioError
from emu.iommus.formats import Entry, TableFormat
from emu.iommus.settings import FULL_BITS
from emu.units import PAGE_SHIFT, PAGE_SIZE, Maddr

VALID = 1 << 0
TABLE = 1 << 1
"""Of a valid descriptor: a table, or at level 1 a page; without it a block, and at level 1 nothing."""

MEMATTR_SHIFT, MEMATTR_NORMAL = 2, 0xF
S2AP_READ, S2AP_WRITE = 1 << 6, 1 << 7
SHAREABILITY_SHIFT, INNER_SHAREABLE = 8, 3
ACCESS_FLAG = 1 << 10
CONTIGUOUS = 1 << 52
"""A hint that sixteen neighbours form one block. Ignored here: a unit need not make use of it."""

EXECUTE_NEVER = 1 << 54
ADDRESS = ((1 << 48) - 1) & ~0xFFF
IGNORED_SHIFT, IGNORED_BITS = 55, 4
"""Bits 58:55, which hardware ignores and software may use."""

BLOCK_LEVELS = (2, 3)
"""Levels at which a leaf may stand beside level 1: blocks of 2 MiB and 1 GiB."""

DEPTHS = (3, 4)
IPA_BITS = (32, 48)
"""The least and the greatest width of the addresses that the tables translate."""

THREE_LEVEL_BITS = 39
"""The widest address that three levels translate with a single table at the top."""

CONCATENATED_BITS_MAX = 4
"""Up to sixteen tables may stand side by side at the top, so that a further level is spared."""


def decode_descriptor(word: int, level: int, bits: int) -> Entry | None:
    """Decode a stage-2 descriptor; None where a walk faults: it is invalid, or a leaf whose access flag is clear.

    S2AP counts in leaves only. Address bits below a block's size are reserved and read as zero here.

    Args:
        bits: the number of bits of a dfn that index a table below a block.
    """
    if not word & VALID:
        return None
    if level > 1 and word & TABLE:
        return Entry(Maddr(word & ADDRESS), level - 1, 0, True, True)
    is_page = level == 1 and bool(word & TABLE)
    if not (is_page or level in BLOCK_LEVELS) or not word & ACCESS_FLAG:
        return None
    order = bits * (level - 1)
    address = Maddr((word & ADDRESS) >> PAGE_SHIFT + order << PAGE_SHIFT + order)
    return Entry(address, 0, order, bool(word & S2AP_READ), bool(word & S2AP_WRITE))


def encode_leaf(address: Maddr, *, read: bool, write: bool, level: int = 1, bits: int = FULL_BITS) -> int:
    """Return a page (level 1) or a block (2 and 3) of normal, inner shareable memory that may be executed.

    Args:
        bits: the number of bits of a dfn that index a table below a block.

    Raises:
        ScenarioError: if there is no leaf at the level, or the address is not aligned to the size.
    """
    if level not in {1, *BLOCK_LEVELS}:
        raise ScenarioError(f"no leaf can stand at level {level}: use 1, 2 or 3")
    size = PAGE_SIZE << bits * (level - 1)
    if address % size or not 0 <= address < 1 << 48:
        raise ScenarioError(f"a level-{level} leaf cannot map {address:#x}: align it to {size:#x} below 2^48")
    kind = VALID | TABLE if level == 1 else VALID
    return address | kind | read * S2AP_READ | write * S2AP_WRITE | memory_bits()


def encode_table(address: Maddr, next_level: int = 1) -> int:
    """Return a descriptor that leads to a table. The word does not say the table's level."""
    return (address & ADDRESS) | VALID | TABLE | S2AP_READ | S2AP_WRITE | memory_bits()


def memory_bits(memattr: int = MEMATTR_NORMAL, shareability: int = INNER_SHAREABLE) -> int:
    """Return the attributes of memory, with the access flag set."""
    return memattr << MEMATTR_SHIFT | shareability << SHAREABILITY_SHIFT | ACCESS_FLAG


def top_level(ipa_bits: int) -> int:
    """Return how many levels translate addresses of a width: three as long as concatenation suffices."""
    return DEPTHS[0] if ipa_bits <= THREE_LEVEL_BITS + CONCATENATED_BITS_MAX else DEPTHS[1]


def root_tables(ipa_bits: int) -> int:
    """Return how many tables stand side by side at the top (DDI 0487, D8.2: concatenated translation tables)."""
    return 1 << max(0, ipa_bits - THREE_LEVEL_BITS) if top_level(ipa_bits) == DEPTHS[0] else 1


@cache
def smmu_format(ipa_bits: int, superpage_bits: int) -> TableFormat:
    """Return the format of stage-2 tables for addresses of a width.

    The tables at the top are one table here, whose index is wider or narrower than nine bits.

    Args:
        superpage_bits: the number of bits of a dfn that index a table below a block.
    """
    levels = top_level(ipa_bits)
    between = (FULL_BITS,) * (levels - len(BLOCK_LEVELS) - 1)
    top = ipa_bits - PAGE_SHIFT - FULL_BITS * (levels - 1)
    index_bits = (*(superpage_bits for _ in BLOCK_LEVELS), *between, top)
    decode = lru_cache(maxsize=1 << 16)(partial(decode_descriptor, bits=superpage_bits))
    encode = partial(encode_leaf, bits=superpage_bits)
    return TableFormat(index_bits, (levels, levels), (1, *BLOCK_LEVELS), decode, encode, encode_table)


SMR_VALID = 1 << 31
SMR_MASK_SHIFT = 16
STREAM_ID_MASK = 0x7FFF
"""A stream id has 15 bits (SMRn.ID, bits 14:0)."""

S2CR_TRANSLATE, S2CR_BYPASS, S2CR_FAULT = (kind << 16 for kind in range(3))
S2CR_TYPE, S2CR_BANK = 3 << 16, 0xFF
"""S2CRn: TYPE in bits 17:16, and for a translation the context bank in bits 7:0."""

CBAR_STAGE_2, CBAR_VMID = 0 << 16, 0xFF
"""CBARn: TYPE 0 is stage-2 translation; the VMID stands in bits 7:0."""

CBA2R_64BIT = 1 << 0

SCTLR_ENABLE = 1 << 0
SCTLR_TEX_REMAP, SCTLR_ACCESS_FLAG, SCTLR_FAULT_REPORT, SCTLR_FAULT_INTERRUPT = 1 << 1, 1 << 2, 1 << 5, 1 << 6
"""SCTLR: M, TRE, AFE, CFRE and CFIE."""

TTBCR_EAE = 1 << 31
SL0_SHIFT = 6


def encode_smr(stream_id: int, mask: int = 0) -> int:
    """Return a valid stream match register: a stream matches if it equals the id in all bits that the mask leaves.

    Raises:
        ScenarioError: if the id or the mask has more than 15 bits.
    """
    if not (0 <= stream_id <= STREAM_ID_MASK and 0 <= mask <= STREAM_ID_MASK):
        raise ScenarioError(f"stream id {stream_id:#x} does not fit into 15 bits: use a device on a bus below 0x80")
    return SMR_VALID | mask << SMR_MASK_SHIFT | stream_id


def matches(smr: int, stream_id: int) -> bool:
    """Whether a stream match register matches a stream."""
    mask = smr >> SMR_MASK_SHIFT & STREAM_ID_MASK
    return bool(smr & SMR_VALID) and not (smr ^ stream_id) & STREAM_ID_MASK & ~mask


def encode_control(ipa_bits: int) -> int:
    """Return the control of stage-2 walks: T0SZ, SL0, write-back cacheable and inner shareable walks, 4 KiB, PS.

    TTBCR of a context bank has these fields, and so has a stream table entry of the SMMUv3 (DDI 0487, VTCR_EL2; PS 2 is
    an output address of 40 bits, 5 one of 48).
    """
    start = top_level(ipa_bits) - 2
    size = 5 if ipa_bits > 40 else 2
    t0sz = 64 - ipa_bits
    return size << 16 | 3 << 12 | 1 << 10 | 1 << 8 | start << SL0_SHIFT | t0sz & 0x3F


def encode_ttbcr(ipa_bits: int) -> int:
    """Return the control register of a context bank for stage 2: that of the walks, and EAE (SMMU_CBn_TCR)."""
    return TTBCR_EAE | encode_control(ipa_bits)


def levels_of(control: int) -> int:
    """Return how many levels a walk reads; SL0 is 0 for a start at the architecture's level 2, 1 for 1 and 2 for 0."""
    return (control >> SL0_SHIFT & 3) + 2


def ipa_bits_of(control: int) -> int:
    """Return the width of the addresses that are translated."""
    return 64 - (control & 0x3F)


@attrs.frozen
class ContextBank:
    """The registers of one context bank, decoded.

    Attributes:
        vmid: tags what is cached through it.
        is_enabled: SCTLR.M; without it requests pass untranslated.
        root: the first of the tables at the top (TTBR0).
        levels, ipa_bits: of the walk (TTBCR).
    """

    vmid: int
    is_enabled: bool
    root: Maddr
    levels: int
    ipa_bits: int
