"""Frames that a machine has before the first step, and where they are mapped."""

from collections.abc import Iterable

from emu.devices.device import Device
from emu.hypervisor.calls import check_order, check_range
from emu.hypervisor.domain import Domain
from emu.hypervisor.driver import Driver
from emu.hypervisor.ops import MapFlags
from emu.hypervisor.pages import Pages
from emu.units import Dfn, Mfn, offset, page_count


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


def premap(
    driver: Driver,
    domain: Domain,
    dfn: Dfn,
    mfn: Mfn,
    page_order: int,
    flags: MapFlags,
    users: Iterable[Device],
    *,
    leaf_order: int,
) -> None:
    """Map 2^page_order pages by leaves of 2^leaf_order pages each.

    Raises:
        ScenarioError: if dfn or mfn does not fit the order or the domain, no leaf has its order, or a leaf or a table
            of another size stands there already.
    """
    check_range(domain, dfn, page_order)
    check_order("mfn", mfn, page_order)
    for i in range(0, page_count(page_order), page_count(leaf_order)):
        driver.premap(domain, offset(dfn, i), Mfn(mfn + i), flags, users, leaf_order)
    domain.p2m |= {offset(dfn, i): Mfn(mfn + i) for i in range(page_count(page_order))}
