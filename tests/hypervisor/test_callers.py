"""Xen's callers: the lock that each holds around the call, and how far it reaches."""

from collections.abc import Awaitable, Callable

import pytest

from emu.cpus import Cpu
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.hypervisor.callers import Callers, Locks
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import ENOMEM, READ_WRITE
from emu.hypervisor.page_list import PageType
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.units import Dfn, Mfn

Call = Callable[[Callers, Cpu, Domain, Domain, Mfn], Awaitable[object]]

CALLS: dict[str, tuple[Call, list[str]]] = {
    "p2m_set_entry": (lambda xen, cpu, domain, _, mfn: xen.p2m_set_entry(cpu, domain, Dfn(1), mfn), ["d1.p2m_lock"]),
    "p2m_set_entry to none": (
        lambda xen, cpu, domain, _, mfn: xen.p2m_set_entry(cpu, domain, Dfn(mfn), None),
        ["d1.p2m_lock"],
    ),
    "guest_physmap_add_entry": (lambda xen, cpu, domain, _, mfn: xen.guest_physmap_add_entry(cpu, domain, mfn), []),
    "guest_physmap_remove_page": (
        lambda xen, cpu, domain, _, mfn: xen.guest_physmap_remove_page(cpu, domain, mfn),
        ["d1.p2m_lock"],
    ),
    "set_identity_p2m_entry": (
        lambda xen, cpu, domain, _, mfn: xen.set_identity_p2m_entry(cpu, domain, mfn),
        ["pcidevs_lock"],
    ),
    "clear_identity_p2m_entry": (
        lambda xen, cpu, domain, _, mfn: xen.clear_identity_p2m_entry(cpu, domain, mfn),
        ["pcidevs_lock"],
    ),
    "get_page_type": (lambda xen, cpu, domain, _, mfn: xen.get_page_type(cpu, domain, mfn, PageType.TABLE), []),
    "map_grant_ref": (
        lambda xen, cpu, domain, owner, mfn: xen.map_grant_ref(cpu, owner, domain, mfn, READ_WRITE),
        ["d1.grant_lock", "d2.grant_lock"],
    ),
    "unmap_grant_ref": (
        lambda xen, cpu, domain, owner, mfn: xen.unmap_grant_ref(cpu, owner, domain, mfn),
        ["d1.grant_lock", "d2.grant_lock"],
    ),
    "memory_add": (lambda xen, cpu, domain, _, mfn: xen.memory_add(cpu, domain, mfn, 2), []),
}
OUTER = ("p2m_lock", "grant_lock", "pcidevs_lock")


def called(call: Call, locks: Locks = Locks.AS_CALLED, failing: int | None = None) -> Machine:
    machine = Machine(Description("merged", is_checking=True))
    domain, owner = machine.domain(1, devices=("00:1f.0",)), machine.domain(2)
    mfn = machine.allocate(domain=owner, page_order=1)
    domain.page_list.enter(mfn, Dfn(mfn), PageType.WRITABLE)
    machine.premap(domain, Dfn(mfn), mfn, cached=True)
    xen = Callers(machine.pages, locks)
    xen.enter_grant(domain, mfn)
    if failing is not None:
        machine.fail_hook("map_page", Dfn(mfn + failing), ENOMEM)

    @machine.cpu(0)
    async def caller(cpu: Cpu) -> None:
        await call(xen, cpu, domain, owner, mfn)

    direct.run(machine.execution(RoundRobinStrategy()))
    return machine


def held(machine: Machine) -> list[list[str]]:
    """Return the outer locks that are held when a call returns, which is after its flush."""
    locks: list[str] = []
    found = []
    for event in machine.trace.events():
        if event.name == "lock.acquire" and event.fields["lock"].endswith(OUTER):
            locks.append(event.fields["lock"])
        elif event.name == "lock.release" and event.fields["lock"] in locks:
            locks.remove(event.fields["lock"])
        elif event.name == "call.return":
            found.append(list(locks))
    return found


@pytest.mark.parametrize("name", CALLS)
def test_a_caller_holds_its_lock_until_the_call_has_flushed(name: str) -> None:
    call, locks = CALLS[name]
    found = held(called(call))
    assert found
    assert all(one == locks for one in found)


@pytest.mark.parametrize("name", CALLS)
def test_without_locks_none_is_held(name: str) -> None:
    call, _ = CALLS[name]
    assert not any(held(called(call, Locks.NONE)))


def test_a_grant_that_is_mapped_twice_ends_with_the_second() -> None:
    async def twice(xen: Callers, cpu: Cpu, domain: Domain, owner: Domain, mfn: Mfn) -> None:
        await xen.map_grant_ref(cpu, owner, domain, mfn, READ_WRITE)
        await xen.unmap_grant_ref(cpu, owner, domain, mfn)
        assert 1 in xen.pages.page(mfn).grants
        await xen.unmap_grant_ref(cpu, owner, domain, mfn)
        assert 1 not in xen.pages.page(mfn).grants

    calls = [event.fields["call"] for event in called(twice).trace.events() if event.name == "call.return"]
    assert calls == ["map", "unmap"]


def test_new_memory_that_cannot_be_mapped_is_unmapped_again() -> None:
    call, _ = CALLS["memory_add"]
    calls = [
        (event.fields["call"], event.fields["result"])
        for event in called(call, failing=1).trace.events()
        if event.name == "call.return"
    ]
    assert calls == [("map", "ok"), ("map", "-ENOMEM"), ("unmap", "ok")]


def test_a_page_that_another_cpu_has_given_a_type_meanwhile_is_left_alone() -> None:
    async def other(xen: Callers, cpu: Cpu, domain: Domain, owner: Domain, mfn: Mfn) -> None:
        variable = domain.page_list.types[mfn]
        body = xen.get_page_type(cpu, domain, mfn, PageType.TABLE)
        read = body.send(None)  # it is about to read the type
        value = await read
        variable.value = PageType.NONE
        swap = body.send(value)
        assert await swap is False
        with pytest.raises(StopIteration) as ended:
            body.send(False)
        assert ended.value.value is False

    assert [event for event in called(other).trace.events() if event.name == "call.return"] == []
