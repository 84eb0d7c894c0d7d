"""Domain ids of a unit: who has which, and what another CPU sees while one is taken or given back."""

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from emu.cpus import Cpu, SpinLock
from emu.engine import Agent, Event, Execution, Exploration, Strategy, Trace
from emu.engine.hosts import direct
from emu.engine.strategies.optimal import Optimal
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import LimitReached
from emu.hypervisor.vtd.domain_ids import DOMID_INVALID, FIRST_DID, NDOMS, DomainIds
from emu.memory import Memory

Body = Callable[[DomainIds], Awaitable[Any]]
LockedBody = Callable[[DomainIds, SpinLock, Cpu], Awaitable[Any]]


def with_ids(owners: dict[int, int]) -> DomainIds:
    """Return ids of which some are taken, each by a domain."""
    domids = DomainIds("vtd0")
    for did, domain in owners.items():
        domids.taken.put(did)
        domids.owner(did).value = domain
    return domids


def run(domids: DomainIds, body: Body) -> tuple[Any, list[Event]]:
    """Have one agent do something; return its result and the events."""
    results: list[Any] = []

    async def only() -> None:
        results.append(await body(domids))

    trace = Trace()
    direct.run(Execution([Agent("only", only, {})], RoundRobinStrategy(), trace))
    return results[0], list(trace.events())


def names(events: list[Event]) -> list[tuple[str, object]]:
    """Return what each event was, and of which word."""
    return [(event.name, event.fields.get("bitmap", event.fields.get("variable"))) for event in events]


def outcomes(make: Callable[[], DomainIds], *bodies: LockedBody) -> Iterator[tuple[DomainIds, list[Any]]]:
    """Yield the ids, and what each CPU got, at the end of every trace."""
    last: list[tuple[DomainIds, list[Any]]] = []

    def program(strategy: Strategy) -> Execution:
        domids, lock, results = make(), SpinLock("vtd0.lock"), [None] * len(bodies)
        last[:] = [(domids, results)]

        async def agent(number: int) -> None:
            results[number] = await bodies[number](domids, lock, Cpu(number, Memory(), Trace()))

        agents = [Agent(f"cpu{number}", partial(agent, number), {}) for number in range(len(bodies))]
        return Execution(agents, strategy, Trace())

    for execution in Exploration(program, Optimal).each():
        direct.run(execution)
        assert execution.deadlock is None
        yield last[0]


def test_a_domain_without_an_id_has_none() -> None:
    assert run(with_ids({1: 7}), lambda domids: domids.find(8))[0] is None


def test_a_domain_finds_its_id() -> None:
    assert run(with_ids({1: 7, 3: 8}), lambda domids: domids.find(8))[0] == 3


def test_the_owner_of_an_id_that_is_free_is_not_asked() -> None:
    domids = with_ids({})
    domids.owner(2).value = 8
    found, events = run(domids, lambda domids: domids.find(8))
    assert found is None
    assert names(events) == [("bitmap.read", "vtd0.domid_bitmap")]


def test_finding_an_id_reads_the_bitmap_and_then_the_owners_of_the_ids_up_to_that_id() -> None:
    _, events = run(with_ids({1: 7, 3: 8, 4: 9}), lambda domids: domids.find(8))
    assert names(events) == [
        ("bitmap.read", "vtd0.domid_bitmap"),
        ("variable.read", "vtd0.domid_map[1]"),
        ("variable.read", "vtd0.domid_map[3]"),
    ]


def test_taking_an_id_returns_the_one_that_the_domain_has() -> None:
    domids = with_ids({1: 7, 3: 8})
    did, events = run(domids, lambda domids: domids.take(8))
    assert did == 3
    assert domids.taken.value == 0b1010
    assert {name for name, _ in names(events)} == {"bitmap.read", "variable.read"}


def test_taking_an_id_takes_the_lowest_that_is_free() -> None:
    domids = with_ids({1: 7, 3: 8})
    did, _ = run(domids, lambda domids: domids.take(9))
    assert did == 2
    assert domids.taken.value == 0b1110
    assert [domids.owner(number).value for number in (1, 2, 3)] == [7, 9, 8]


def test_a_taken_id_enters_the_map_before_the_bitmap() -> None:
    _, events = run(with_ids({}), lambda domids: domids.take(9))
    assert names(events)[-2:] == [("variable.write", "vtd0.domid_map[1]"), ("bitmap.set", "vtd0.domid_bitmap")]


def test_the_first_id_is_not_0() -> None:
    assert FIRST_DID == 1
    assert run(with_ids({}), lambda domids: domids.take(9))[0] == 1
    assert DomainIds("vtd0").put(9) == 1


def test_domain_0_gets_an_id_as_any_other() -> None:
    domids = DomainIds("vtd0")
    assert domids.put(0) == 1
    assert run(domids, lambda domids: domids.find(0))[0] == 1


def test_ids_that_are_taken_one_after_the_other_are_all_but_0() -> None:
    domids = DomainIds("vtd0")

    async def takes_all(domids: DomainIds) -> list[int]:
        return [await domids.take(domain) for domain in range(100, 100 + NDOMS - 1)]

    assert run(domids, takes_all)[0] == list(range(1, NDOMS))
    assert not domids.taken.has(0)


def test_when_all_ids_are_in_use_a_limit_is_reached() -> None:
    domids = DomainIds("vtd0")
    for domain in range(NDOMS - 1):
        domids.put(domain)
    with pytest.raises(LimitReached, match="all 63 domain ids of vtd0 are in use: use fewer domains"):
        domids.put(NDOMS)
    with pytest.raises(LimitReached, match="all 63 domain ids of vtd0 are in use"):
        run(domids, lambda domids: domids.take(NDOMS))


def test_when_all_ids_are_in_use_a_domain_still_finds_its_own() -> None:
    domids = DomainIds("vtd0")
    for domain in range(NDOMS - 1):
        domids.put(domain)
    assert run(domids, lambda domids: domids.take(NDOMS - 2))[0] == NDOMS - 1


def test_before_the_first_step_a_domain_gets_one_id_however_often_it_asks() -> None:
    domids = DomainIds("vtd0")
    assert [domids.put(7), domids.put(8), domids.put(7)] == [1, 2, 1]
    assert [domids.peek(7), domids.peek(8), domids.peek(9)] == [1, 2, None]


def test_an_id_that_was_given_back_is_taken_again() -> None:
    domids = with_ids({1: 7, 2: 8})

    async def gives_and_takes(domids: DomainIds) -> int:
        await domids.give_back(1, map_first=True)
        return await domids.take(9)

    assert run(domids, gives_and_takes)[0] == 1
    assert [domids.peek(domain) for domain in (7, 8, 9)] == [None, 2, 1]


def test_until_xsa_399_an_id_leaves_the_bitmap_first_and_its_owner_becomes_0() -> None:
    domids = with_ids({1: 7})
    _, events = run(domids, lambda domids: domids.give_back(1, map_first=False))
    assert names(events) == [("bitmap.clear", "vtd0.domid_bitmap"), ("variable.write", "vtd0.domid_map[1]")]
    assert (domids.taken.value, domids.owner(1).value) == (0, 0)


def test_since_xsa_399_an_id_leaves_the_map_first_and_its_owner_becomes_invalid() -> None:
    domids = with_ids({1: 7})
    _, events = run(domids, lambda domids: domids.give_back(1, map_first=True))
    assert names(events) == [("variable.write", "vtd0.domid_map[1]"), ("bitmap.clear", "vtd0.domid_bitmap")]
    assert (domids.taken.value, domids.owner(1).value) == (0, DOMID_INVALID)


def given_back_while_taken(*, map_first: bool) -> set[tuple[bool, int | None]]:
    """Have domain 8 take an id while 7 gives its own back.

    Returns:
        Over all traces, whether 8 still has it afterwards, and which one domain 0 has.
    """

    async def gives(domids: DomainIds, lock: SpinLock, cpu: Cpu) -> None:
        await domids.give_back(1, map_first=map_first)

    async def takes(domids: DomainIds, lock: SpinLock, cpu: Cpu) -> int:
        return await domids.take(8)

    done = outcomes(lambda: with_ids({1: 7}), gives, takes)
    return {(domids.peek(8) == did, domids.peek(0)) for domids, (_, did) in done}


def test_until_xsa_399_a_domain_may_lose_the_id_that_it_has_taken_to_domain_0() -> None:
    assert given_back_while_taken(map_first=False) == {(True, None), (False, 1)}


def test_since_xsa_399_a_domain_keeps_the_id_that_it_has_taken() -> None:
    assert given_back_while_taken(map_first=True) == {(True, None)}


def taken_by_two(*domains: int, locked: bool) -> set[tuple[int, ...]]:
    """Return which ids CPUs get that take one each, over all traces."""

    def taking(domain: int) -> LockedBody:
        async def takes(domids: DomainIds, lock: SpinLock, cpu: Cpu) -> int:
            if not locked:
                return await domids.take(domain)
            async with lock.held(cpu):
                return await domids.take(domain)

        return takes

    return {tuple(ids) for _, ids in outcomes(lambda: DomainIds("vtd0"), *map(taking, domains))}


def test_two_cpus_that_take_ids_under_the_lock_of_the_unit_never_share_one() -> None:
    assert taken_by_two(7, 8, locked=True) == {(1, 2), (2, 1)}


def test_two_cpus_that_take_an_id_for_one_domain_under_the_lock_of_the_unit_get_the_same() -> None:
    assert taken_by_two(7, 7, locked=True) == {(1, 1)}


def test_without_the_lock_two_cpus_may_share_one() -> None:
    assert (1, 1) in taken_by_two(7, 8, locked=False)
