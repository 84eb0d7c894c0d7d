"""Addresses and sizes, each with a type of its own: an address is never a bare int in a signature."""

from typing import NewType

Dfn = NewType("Dfn", int)
"""Device frame number: a device's view of an address, in units of 4 KiB."""

Mfn = NewType("Mfn", int)
"""Machine frame number: a frame of host memory, in units of 4 KiB."""

Maddr = NewType("Maddr", int)
"""Machine address in bytes."""

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
WORD_BYTES = 8


def frame_address(mfn: Mfn) -> Maddr:
    """Return the address of the first byte of a frame."""
    return Maddr(mfn << PAGE_SHIFT)


def address_frame(address: Maddr) -> Mfn:
    """Return the frame that holds an address."""
    return Mfn(address >> PAGE_SHIFT)


def offset(dfn: Dfn, pages: int) -> Dfn:
    """Return the device frame a number of pages after another."""
    return Dfn(dfn + pages)


def page_count(page_order: int) -> int:
    """Return how many 4 KiB pages 2^page_order is."""
    return 1 << page_order
