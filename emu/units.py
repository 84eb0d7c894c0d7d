"""Addresses and frame numbers, each with a type of its own, so that no signature has a bare int for one."""

from typing import NewType, TypeVar

from emu.errors import ScenarioError

Dfn = NewType("Dfn", int)
"""Device frame number: a device's view of an address, in units of 4 KiB."""

Mfn = NewType("Mfn", int)
"""Machine frame number: a frame of host memory, in units of 4 KiB."""

Maddr = NewType("Maddr", int)
"""Machine address in bytes."""

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
WORD_BYTES = 8


Frame = TypeVar("Frame", bound=int)


def check_frame(name: str, frame: Frame) -> Frame:
    """Return a frame number from a user's code, which may be a plain whole number.

    Args:
        name: "dfn" or "mfn".

    Raises:
        ScenarioError: if it is no whole number.
    """
    if type(frame) is not int:
        raise ScenarioError(f"the {name} {frame!r} is no frame number: write {name.capitalize()}(0x10)")
    return frame


def frame_address(mfn: Mfn) -> Maddr:
    """Return the address of the first byte of a frame."""
    return Maddr(mfn << PAGE_SHIFT)


def address_frame(address: Maddr) -> Mfn:
    """Return the frame that holds an address."""
    return Mfn(address >> PAGE_SHIFT)


def offset(dfn: Dfn, pages: int) -> Dfn:
    """Return the dfn a number of pages after another dfn."""
    return Dfn(dfn + pages)


def page_count(page_order: int) -> int:
    """Return the number of 4 KiB pages of an order, 2^page_order."""
    return 1 << page_order


def parse_source_id(bdf: str) -> int:
    """Return the 16-bit source-id of "bus:device.function": 0xf8 for "00:1f.0".

    Raises:
        ScenarioError: if the text is no such name.
    """
    try:
        bus, rest = bdf.split(":")
        device, function = rest.split(".")
        numbers = (int(bus, 16), int(device, 16), int(function, 16))
    except ValueError:
        numbers = (-1, -1, -1)
    if not (0 <= numbers[0] < 256 and 0 <= numbers[1] < 32 and 0 <= numbers[2] < 8):
        raise ScenarioError(f"{bdf!r} is no PCI device: write bus:device.function in hexadecimal, such as 00:1f.0")
    return numbers[0] << 8 | numbers[1] << 3 | numbers[2]
