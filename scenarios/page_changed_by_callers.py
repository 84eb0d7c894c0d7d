"""R1 by Xen's own callers: with the locks that Xen holds there, and without any."""

from collections.abc import Awaitable
from enum import Enum

from emu import READ_WRITE, Callers, Cpu, Dfn, Domain, Locks, Machine, Mfn, PageType, scenario

G = Dfn(0x1000)


class Caller(Enum):
    """What takes a page away from a domain's devices and gives it back."""

    P2M = "p2m"  # ept_set_entry and p2m_pt_set_entry: of an HVM domain, to another frame
    PHYSMAP = "physmap"  # guest_physmap_remove_page and _add_entry: of a PV domain
    PAGE_TYPE = "page-type"  # _get_page_type: a PV domain's page becomes a page table, and writable again
    GRANT = "grant"  # unmap_common and map_grant_ref: of a PV domain
    IDENTITY = "identity"  # clear_ and set_identity_p2m_entry: a page of a device's firmware


@scenario(
    verdicts="""
    # A PV domain's page has its own frame always, so what is left of the old entry does no harm.
    hook_faults>0                                      | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0                                      | no claim: a flush that is given up is not made again (B55, D19)
    caching_mode=true                                  | no claim: a page that was not present is flushed by domain id 0
    np_cache=true                                      | no claim: a page that was not present is not flushed
    caller=p2m locks=none                              | stale
    caller=physmap,page-type,grant,identity locks=none | clean
    caller=physmap,page-type,grant,identity            | clean
    -                                                  | clean
    """
)
def page_changed_by_callers(m: Machine, *, caller: Caller = Caller.P2M, locks: Locks = Locks.AS_CALLED) -> None:
    """CPU 0 takes a page away from a domain's devices, and CPU 1 gives it back, each as Xen's code does.

    caller: Xen's code.
    locks: those that Xen holds around the calls, or none.
    """
    owner, domain = m.domain(2), m.domain(1, devices=("00:1f.0",))
    frame, new = m.allocate(domain=owner if caller is Caller.GRANT else domain), m.allocate(domain=domain)
    domain.page_list.enter(frame, Dfn(frame), PageType.WRITABLE)
    xen = Callers(m.pages, locks)
    if caller is Caller.GRANT:
        xen.enter_grant(domain, frame)
    m.premap(domain, G if caller is Caller.P2M else Dfn(frame), frame, cached=True)

    @m.cpu(0)
    async def taker(cpu: Cpu) -> None:
        async with cpu.hypercall("take"):
            await take(xen, caller, cpu, domain, owner, frame)

    @m.cpu(1)
    async def giver(cpu: Cpu) -> None:
        async with cpu.hypercall("give"):
            await give(xen, caller, cpu, domain, owner, new if caller is Caller.P2M else frame)


def take(xen: Callers, caller: Caller, cpu: Cpu, domain: Domain, owner: Domain, frame: Mfn) -> Awaitable[object]:
    """Return the call that takes the page away."""
    match caller:
        case Caller.P2M:
            return xen.p2m_set_entry(cpu, domain, G, None)
        case Caller.PHYSMAP:
            return xen.guest_physmap_remove_page(cpu, domain, frame)
        case Caller.PAGE_TYPE:
            return xen.get_page_type(cpu, domain, frame, PageType.TABLE)
        case Caller.GRANT:
            return xen.unmap_grant_ref(cpu, owner, domain, frame)
        case Caller.IDENTITY:
            return xen.clear_identity_p2m_entry(cpu, domain, frame)


def give(xen: Callers, caller: Caller, cpu: Cpu, domain: Domain, owner: Domain, frame: Mfn) -> Awaitable[object]:
    """Return the call that gives it back."""
    match caller:
        case Caller.P2M:
            return xen.p2m_set_entry(cpu, domain, G, frame)
        case Caller.PHYSMAP:
            return xen.guest_physmap_add_entry(cpu, domain, frame)
        case Caller.PAGE_TYPE:
            return xen.get_page_type(cpu, domain, frame, PageType.WRITABLE)
        case Caller.GRANT:
            return xen.map_grant_ref(cpu, owner, domain, frame, READ_WRITE)
        case Caller.IDENTITY:
            return xen.set_identity_p2m_entry(cpu, domain, frame)
