"""The registers that say which tables translate for a stream (IHI 0062, chapter 2 and chapters 9 to 16).

A stream is matched against the stream match registers (SMRn). The S2CR of the one that matches names a context bank,
and the bank's registers name the tables. No copy of them is cached: a request reads them when it is accepted.

A change of these registers is not ordered with requests that were accepted before it. Such a request may go on with
what it has read until an invalidation of its VMID that began after the change has completed, because that waits for the
walks that could still fill the TLB.

Not modelled: a request that reads one register before and another one after a change.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from math import inf
from typing import Any

import attrs

from emu.engine import Access, Kind, Space
from emu.iommus.counters import Counters
from emu.iommus.paths import UNTRANSLATED, Tables
from emu.iommus.smmu.formats import (
    ADDRESS,
    CBAR_VMID,
    S2CR_BANK,
    S2CR_BYPASS,
    S2CR_TRANSLATE,
    S2CR_TYPE,
    SCTLR_ENABLE,
    ContextBank,
    ipa_bits_of,
    levels_of,
    matches,
)
from emu.memory import HALF_BYTES, HALF_MASK, Memory, Store
from emu.units import PAGE_SIZE, Maddr

STREAMS = 32
"""How many stream match registers a unit has (IDR0.NUMSMRG)."""

BANKS = 16
"""How many context banks a unit has (IDR1.NUMCB)."""

PAGES = 2 + BANKS
"""The pages of the model's register file: two of global registers, and one for each bank."""

SMR, S2CR = 0x800, 0xC00
CBAR, CBA2R = PAGE_SIZE, PAGE_SIZE + 0x800
BANK = 2 * PAGE_SIZE
SCTLR, TTBR0_LOW, TTBR0_HIGH, TTBCR = 0x0, 0x20, 0x24, 0x30

Value = Callable[[int], int]
"""Returns the 32 bits of a register, by its address, at some step."""

Snapshot = tuple[Tables | None, tuple[int, ...]]
"""The tables of a stream, and the addresses of the registers that name them. The requests of a stream with tables of no
level pass untranslated, and those of a stream without tables fault."""


@attrs.define(eq=False)
class Registers:
    """The registers of one unit.

    Attributes:
        memory: keeps their values, each in a half of a word.
        base: the address of the first page.
        stores: how many stores they have had.
        known: the answers of `lifetimes`, by stream, and by how many stores there had been.
    """

    unit: str
    memory: Memory
    base: Maddr
    counters: Counters
    stores: int = 0
    known: dict[int, tuple[int, list[tuple[Tables | None, int, float]]]] = attrs.field(factory=dict)

    @property
    def space(self) -> Space:
        """The space of their one shared object: a request reads all of them that matter in one step."""
        return ("stream_map", self.unit)

    def access(self, kind: Kind) -> Access:
        """Return the access to them."""
        return Access.to(self.space, 0, kind)

    def smr(self, stream: int) -> Maddr:
        """Return the address of a stream match register."""
        return Maddr(self.base + SMR + HALF_BYTES * stream)

    def s2cr(self, stream: int) -> Maddr:
        """Return the address of the register that says what becomes of the streams that match."""
        return Maddr(self.base + S2CR + HALF_BYTES * stream)

    def cbar(self, bank: int) -> Maddr:
        """Return the address of the attribute register of a bank."""
        return Maddr(self.base + CBAR + HALF_BYTES * bank)

    def cba2r(self, bank: int) -> Maddr:
        """Return the address of the second attribute register of a bank."""
        return Maddr(self.base + CBA2R + HALF_BYTES * bank)

    def of_bank(self, bank: int, register: int) -> Maddr:
        """Return the address of a register in the page of a bank."""
        return Maddr(self.base + BANK + PAGE_SIZE * bank + register)

    def value(self, address: int) -> int:
        """Return the present value of a register, without a step."""
        return half_of(self.memory.peek(address & ~7), address)

    def put(self, address: Maddr, value: int) -> None:
        """Write a register before the first step."""
        self.memory.put(address, value, bits=32)
        self.stores += 1

    def bank(self, bank: int, value: Value) -> ContextBank:
        """Decode the registers of a bank."""
        low, high = (value(self.of_bank(bank, register)) for register in (TTBR0_LOW, TTBR0_HIGH))
        control = value(self.of_bank(bank, TTBCR))
        return ContextBank(
            vmid=value(self.cbar(bank)) & CBAR_VMID,
            is_enabled=bool(value(self.of_bank(bank, SCTLR)) & SCTLR_ENABLE),
            root=Maddr((low | high << 32) & ADDRESS),
            levels=levels_of(control),
            ipa_bits=ipa_bits_of(control),
        )

    def snapshot(self, stream_id: int, value: Value) -> Snapshot:
        """Return the tables of a stream, as the registers say it at some step.

        A stream that matches nothing, or several registers, faults (sCR0.USFCFG and SMCFCFG).
        """
        read = tuple(self.smr(stream) for stream in range(STREAMS))
        found = [stream for stream, smr in enumerate(read) if matches(value(smr), stream_id)]
        if len(found) != 1:
            return None, read
        control = self.s2cr(found[0])
        read, asked = (*read, control), value(control)
        if asked & S2CR_TYPE == S2CR_BYPASS:
            return untranslated(), read
        if asked & S2CR_TYPE != S2CR_TRANSLATE or asked & S2CR_BANK >= BANKS:
            return None, read
        number = asked & S2CR_BANK
        of_bank = (self.of_bank(number, register) for register in (SCTLR, TTBR0_LOW, TTBCR))
        bank, read = self.bank(number, value), (*read, self.cbar(number), *of_bank)
        return (Tables(bank.vmid, bank.root, bank.levels) if bank.is_enabled else untranslated()), read

    def words(self) -> Iterator[int]:
        """Yield the addresses of the words in which registers lie that were ever stored to."""
        last = self.base + PAGE_SIZE * PAGES
        return (address for address in self.memory.versions if self.base <= address < last)

    def lifetimes(self, stream_id: int) -> list[tuple[Tables | None, int, float]]:
        """Return what the registers have ever said of a stream, and from and until which step, the newest first.

        The end is the step of the store that changed it, infinite for what they say now.
        """
        stores, answer = self.known.get(stream_id, (-1, []))
        if stores != self.stores:
            answer = list(self.told(stream_id))
            self.known[stream_id] = self.stores, answer
        return answer

    def told(self, stream_id: int) -> Iterator[tuple[Tables | None, int, float]]:
        """Yield the same, one for each time that it changed."""
        steps = {version.stored for word in self.words() for version in self.memory.history(word)}
        until: float = inf
        later: tuple[Tables | None, int, float] | None = None
        for step in sorted({0, *steps}, reverse=True):
            tables, _ = self.snapshot(stream_id, partial(self.value_at, step))
            if later is not None and later[0] == tables:
                later = (tables, step, later[2])
                continue
            if later is not None:
                yield later
                until = later[1]
            later = (tables, step, until)
        if later is not None:
            yield later

    def value_at(self, step: int, address: int) -> int:
        """Return the value that a register had at a step."""
        history = self.memory.history(address & ~7)
        word = next((version.value for version in reversed(history) if version.stored <= step), 0)
        return half_of(word, address)


class StoreRegister(Store):
    """Store 32 bits to a register, for a device."""

    __slots__ = ("registers",)

    event = "stream.write"

    def __init__(self, registers: Registers, address: Maddr, value: int, name: str, bdf: str) -> None:
        details = {"iommu": registers.unit, "register": name, "bdf": bdf}
        super().__init__(registers.memory, address, value, 32, self.event, details)
        self.registers = registers

    def accesses(self) -> Iterable[Access]:
        yield from super().accesses()
        yield self.registers.access(Kind.WRITE)

    def perform(self, step: int) -> int:
        self.registers.counters.register_writes += 1
        self.registers.stores += 1
        return super().perform(step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.label, {**self.details, "old": self.old, "value": self.value}


def half_of(word: int, address: int) -> int:
    """Return the 32 bits at an address of the word that holds it."""
    return word >> 8 * (address & 4) & HALF_MASK


def untranslated() -> Tables:
    """Return what stands for tables where requests pass untranslated."""
    return Tables(UNTRANSLATED, Maddr(0), 0)
