"""Frames that a machine has before the first step."""

from emu.hypervisor.calls import check_order
from emu.hypervisor.domain import Domain
from emu.hypervisor.pages import Pages
from emu.units import Mfn, page_count


def allocate(pages: Pages, page_order: int, domain: Domain | None, at: Mfn | None) -> Mfn:
    """Return the first of 2^page_order frames, `at` if that is given; a domain owns them, or nobody does.

    Raises:
        ScenarioError: if `at` is no frame, is not aligned to the order, or may not be named; or a frame is in use.
    """
    if at is None:
        first = pages.memory.allocate_data(page_order)
    else:
        check_order("mfn", at, page_order)
        pages.memory.allocate_named(at, page_order)
        first = at
    if domain is not None:
        for i in range(page_count(page_order)):
            pages.add(Mfn(first + i), domain)
    return first
