"""Bitmaps of one word that CPUs share (Xen: arch/x86/include/asm/bitops.h)."""

from collections.abc import Iterable, Mapping
from typing import Any

from emu.engine import Access, Kind, Operation, Space


class Bitmap:
    """A word of bits. Reading it, and changing one bit, is one step each.

    Args:
        name: unique in its machine.
    """

    __slots__ = ("name", "value")

    def __init__(self, name: str) -> None:
        self.name = name
        self.value = 0

    @property
    def space(self) -> Space:
        """The space of one object, the word, number 0."""
        return ("bitmap", self.name)

    def has(self, bit: int) -> bool:
        """Whether a bit is set. Takes no step; agents use `read`."""
        return bool(self.value >> bit & 1)

    def put(self, bit: int) -> None:
        """Set a bit, before the first step."""
        self.value |= 1 << bit

    def read(self) -> "ReadBits":
        """Return the whole word."""
        return ReadBits(self)

    def set(self, bit: int) -> "ChangeBit":
        """Set a bit."""
        return ChangeBit(self, bit, is_set=True)

    def clear(self, bit: int) -> "ChangeBit":
        """Clear a bit."""
        return ChangeBit(self, bit, is_set=False)

    def first_free(self, count: int) -> int | None:
        """Return the lowest of the first `count` bits that is clear; None if all are set. Takes no step."""
        return next((bit for bit in range(count) if not self.has(bit)), None)

    def take(self, count: int) -> "TakeBit":
        """Set the lowest of the first `count` bits that is clear, and return it; None if all are set."""
        return TakeBit(self, count)


class ReadBits(Operation[int]):
    """Read a bitmap (Xen: arch/x86/include/asm/bitops.h, test_bit)."""

    __slots__ = ("bitmap", "value")

    event = "bitmap.read"

    def __init__(self, bitmap: Bitmap) -> None:
        self.bitmap = bitmap
        self.value = 0

    def accesses(self) -> Iterable[Access]:
        return (Access.to(self.bitmap.space, 0, Kind.READ),)

    def perform(self, step: int) -> int:
        self.value = self.bitmap.value
        return self.value

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"bitmap": self.bitmap.name, "value": self.value}


class ChangeBit(Operation[None]):
    """Set or clear one bit of a bitmap, atomically (Xen: arch/x86/include/asm/bitops.h, set_bit and clear_bit)."""

    __slots__ = ("bit", "bitmap", "is_set")

    def __init__(self, bitmap: Bitmap, bit: int, *, is_set: bool) -> None:
        self.bitmap = bitmap
        self.bit = bit
        self.is_set = is_set

    def accesses(self) -> Iterable[Access]:
        return (Access.to(self.bitmap.space, 0, Kind.WRITE),)

    def perform(self, step: int) -> None:
        mask = 1 << self.bit
        self.bitmap.value = self.bitmap.value | mask if self.is_set else self.bitmap.value & ~mask

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return "bitmap.set" if self.is_set else "bitmap.clear", {"bitmap": self.bitmap.name, "bit": self.bit}


class TakeBit(Operation[int | None]):
    """Set the lowest bit that is clear, atomically: a bit that another CPU takes meanwhile is passed over.

    (Xen: arm/smmu.c, __arm_smmu_alloc_bitmap)
    """

    __slots__ = ("bit", "bitmap", "count")

    def __init__(self, bitmap: Bitmap, count: int) -> None:
        self.bitmap = bitmap
        self.count = count
        self.bit: int | None = None

    def accesses(self) -> Iterable[Access]:
        return (Access.to(self.bitmap.space, 0, Kind.WRITE),)

    def perform(self, step: int) -> int | None:
        self.bit = self.bitmap.first_free(self.count)
        if self.bit is not None:
            self.bitmap.put(self.bit)
        return self.bit

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys = {"bitmap": self.bitmap.name}
        if self.bit is None:
            return ReadBits.event, {**keys, "value": self.bitmap.value}
        return "bitmap.set", {**keys, "bit": self.bit}
