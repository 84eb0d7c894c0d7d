"""By whose tables a frame may be reached: each rule with a program that breaks it, and a twin that differs in one act.

All are exhausted, so what is shown and what is not is said of every trace.
"""

from collections.abc import Awaitable, Callable

import pytest

from emu.checks.details import Act
from emu.checks.findings import FindingKind, NotIsolated
from emu.checks.signatures import Signature
from emu.cpus import Cpu
from emu.devices.device import Device
from emu.errors import ModelError, ScenarioError
from emu.hypervisor.domain import DOMID_IO, Domain
from emu.hypervisor.ops import READ_WRITE, MapFlags, iommu_dont_flush_iotlb
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.scenarios.expectation import CLEAN
from emu.scenarios.scenario import Build, scenario
from emu.units import Dfn, Mfn, address_frame, frame_address
from tests.checks.exhausted import causes, explored
from tests.conftest import Execute

BDF = "00:1f.0"
G, FAR = Dfn(0x30), Dfn(0x400)

FRAME = Mfn(0x180002)
"""The first frame that a scenario allocates."""

READ = MapFlags.READABLE


def broken(act: Act, who: str = "cpu0", domain: int = 2, frame: Mfn = FRAME) -> Signature:
    return Signature(FindingKind.NOT_ISOLATED, f"isolated: {act.value}", domain, G, frame, "vtd0", who)


def kinds(build: Build, parameters: str = "") -> set[FindingKind]:
    return {found.kind for found in causes(build, parameters)}


def two_domains(m: Machine) -> tuple[Domain, Domain, Mfn]:
    """Return the owner of a frame, a domain with a device, and the frame."""
    owner, other = m.domain(1), m.domain(2, devices=(BDF,))
    return owner, other, m.allocate(domain=owner)


def on_one_cpu(body: Callable[[Machine, Cpu, Domain, Domain, Mfn], Awaitable[object]], **premapped: MapFlags) -> Build:
    """Return a program in which one CPU runs a body.

    Args:
        premapped: `let`, with which flags the other domain may map the frame, and `as_`, with which it is mapped.
    """

    def build(m: Machine) -> None:
        owner, other, frame = two_domains(m)
        if "let" in premapped:
            m.let_map(frame, other, premapped["let"])
        if "as_" in premapped:
            m.premap(other, G, frame, flags=premapped["as_"])

        @m.cpu(0)
        async def only(cpu: Cpu) -> None:
            await body(m, cpu, owner, other, frame)

    return build


async def maps(m: Machine, cpu: Cpu, owner: Domain, other: Domain, frame: Mfn) -> None:
    await m.hypervisor.map(cpu, other, G, frame)


async def maps_to_read(m: Machine, cpu: Cpu, owner: Domain, other: Domain, frame: Mfn) -> None:
    await m.hypervisor.map(cpu, other, G, frame, flags=READ)


async def maps_for_the_owner(m: Machine, cpu: Cpu, owner: Domain, other: Domain, frame: Mfn) -> None:
    await m.assignment.reassign(cpu, other, owner, m.devices[BDF])
    await m.hypervisor.map(cpu, owner, G, frame)


async def lets_and_maps(m: Machine, cpu: Cpu, owner: Domain, other: Domain, frame: Mfn) -> None:
    assert await m.pages.let_map(cpu, frame, other)
    await m.hypervisor.map(cpu, other, G, frame)


async def maps_and_lets(m: Machine, cpu: Cpu, owner: Domain, other: Domain, frame: Mfn) -> None:
    await m.hypervisor.map(cpu, other, G, frame)
    assert await m.pages.let_map(cpu, frame, other)


async def withdraws_and_maps(m: Machine, cpu: Cpu, owner: Domain, other: Domain, frame: Mfn) -> None:
    assert await m.pages.withdraw(cpu, frame, other)
    await m.hypervisor.map(cpu, other, G, frame)


async def lets_by_halves(m: Machine, cpu: Cpu, owner: Domain, other: Domain, frame: Mfn) -> None:
    await m.pages.let_map(cpu, frame, other, MapFlags.WRITABLE)
    await m.hypervisor.map(cpu, other, G, frame)


async def withdraws(m: Machine, cpu: Cpu, owner: Domain, other: Domain, frame: Mfn) -> None:
    assert await m.pages.withdraw(cpu, frame, other)
    await m.hypervisor.unmap(cpu, other, G)


async def unmaps_and_withdraws(m: Machine, cpu: Cpu, owner: Domain, other: Domain, frame: Mfn) -> None:
    await m.hypervisor.unmap(cpu, other, G)
    assert await m.pages.withdraw(cpu, frame, other)


async def frees_and_maps(m: Machine, cpu: Cpu, owner: Domain, other: Domain, frame: Mfn) -> None:
    await m.pages.put(cpu, frame)
    assert await m.pages.allocate(cpu, owner) == frame
    await m.hypervisor.map(cpu, other, G, frame)


def withdraws_around_the_flush(*, is_late: bool) -> Build:
    """Return a program that unmaps a page, puts the flush off, and withdraws before the flush or after it."""

    async def body(m: Machine, cpu: Cpu, owner: Domain, other: Domain, frame: Mfn) -> None:
        async with cpu.hypercall("unmap_grant_ref"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            await m.hypervisor.unmap(cpu, other, G)
            await cpu.write(iommu_dont_flush_iotlb, False)
            if not is_late:
                await m.pages.withdraw(cpu, frame, other)
            await m.hypervisor.flush(cpu, other, G, pages=1)
            if is_late:
                await m.pages.withdraw(cpu, frame, other)

    return on_one_cpu(body, let=READ_WRITE, as_=READ_WRITE)


@pytest.mark.parametrize(
    ("program", "act"),
    [
        (on_one_cpu(maps), Act.MAP),
        (on_one_cpu(maps, let=READ), Act.MAP),
        (on_one_cpu(maps_and_lets), Act.MAP),
        (on_one_cpu(withdraws_and_maps, let=READ_WRITE), Act.MAP),
        (on_one_cpu(frees_and_maps, let=READ_WRITE), Act.MAP),
        (on_one_cpu(withdraws, let=READ_WRITE, as_=READ_WRITE), Act.WITHDRAW),
        (on_one_cpu(withdraws, let=READ, as_=READ), Act.WITHDRAW),
        (withdraws_around_the_flush(is_late=False), Act.WITHDRAW),
    ],
)
def test_a_frame_in_reach_of_a_domain_that_may_not_map_it_is_found(program: Build, act: Act) -> None:
    assert list(causes(program, "revision=merged")) == [broken(act)]


@pytest.mark.parametrize(
    "program",
    [
        on_one_cpu(maps_for_the_owner),
        on_one_cpu(lets_and_maps),
        on_one_cpu(maps, let=READ_WRITE),
        on_one_cpu(maps_to_read, let=READ),
        on_one_cpu(lets_by_halves, let=READ),
        on_one_cpu(unmaps_and_withdraws, let=READ_WRITE, as_=READ_WRITE),
        withdraws_around_the_flush(is_late=True),
    ],
)
def test_its_twin_shows_nothing(program: Build) -> None:
    assert causes(program, "revision=merged") == {}


@pytest.mark.parametrize("is_ordered", [True, False])
def test_a_withdrawal_on_another_cpu_waits_for_the_flush(*, is_ordered: bool) -> None:
    def program(m: Machine) -> None:
        _, other, frame = two_domains(m)
        m.let_map(frame, other)
        m.premap(other, G, frame, cached=True)
        unmapped = m.signal("unmapped")

        @m.cpu(0)
        async def grantee(cpu: Cpu) -> None:
            await m.hypervisor.unmap(cpu, other, G)
            await unmapped.send()

        @m.cpu(1)
        async def granter(cpu: Cpu) -> None:
            if is_ordered:
                await unmapped.wait()
            await m.pages.withdraw(cpu, frame, other)

    assert list(causes(program, "revision=merged")) == ([] if is_ordered else [broken(Act.WITHDRAW, "cpu1")])


@pytest.mark.parametrize("parameters", ["revision=merged", "revision=merged coherent=false", "revision=implicit"])
@pytest.mark.parametrize("is_let", [True, False])
def test_a_race_for_leave_to_map_is_found_whatever_the_wrapper(parameters: str, *, is_let: bool) -> None:
    def program(m: Machine) -> None:
        _, other, frame = two_domains(m)
        m.premap(other, Dfn(G + 1), m.allocate())
        if is_let:
            m.let_map(frame, other)

        @m.cpu(0)
        async def grantee(cpu: Cpu) -> None:
            await m.hypervisor.map(cpu, other, G, frame)

        @m.cpu(1)
        async def granter(cpu: Cpu) -> None:
            await m.pages.let_map(cpu, frame, other)

    assert list(causes(program, parameters)) == ([] if is_let else [broken(Act.MAP)])


@pytest.mark.parametrize(
    ("let", "is_write", "who"),
    [(None, False, BDF), (READ, True, BDF), (READ, False, None), (READ_WRITE, True, None)],
)
def test_an_access_is_judged_by_the_owner_of_the_frame_and_by_what_it_does(
    let: MapFlags | None, who: str | None, *, is_write: bool
) -> None:
    def program(m: Machine) -> None:
        _, other, frame = two_domains(m)
        if let is not None:
            m.let_map(frame, other, let)
        m.premap(other, G, frame)

        @m.device(BDF)
        async def user(device: Device) -> None:
            await (device.write(G, 1) if is_write else device.read(G))

    assert list(causes(program)) == ([] if who is None else [broken(Act.ACCESS, who)])


def test_an_access_makes_what_was_possible_observed_and_is_no_finding_of_its_own(execute: Execute) -> None:
    def program(m: Machine) -> None:
        _, other, frame = two_domains(m)
        mapped = m.signal("mapped")

        @m.cpu(0)
        async def mapper(cpu: Cpu) -> None:
            await m.hypervisor.map(cpu, other, G, frame)
            await mapped.send()

        @m.device(BDF)
        async def reader(device: Device) -> None:
            await mapped.wait()
            await device.read(G)
            await device.read(G)

    assert list(causes(program, "synchronous=true walk_at_once=true")) == [broken(Act.MAP)]
    machine = Machine(Description(is_checking=True))
    program(machine)
    (found,) = execute(machine)
    assert isinstance(found, NotIsolated)
    assert found.use is not None
    assert (found.act, found.use.device) == (Act.MAP, BDF)


def gives_away(m: Machine, *, frees: bool, reads: bool = False) -> None:
    """A frame that is mapped gets a new owner, while the device of the old one reads; or its page is unmapped."""
    first, second = m.domain(1, devices=(BDF,)), m.domain(2)
    frame = m.allocate(domain=first)
    m.premap(first, G, frame, cached=True)

    @m.cpu(0)
    async def owner(cpu: Cpu) -> None:
        if frees:
            await m.pages.put(cpu, frame)
            await m.pages.allocate(cpu, second)
        await m.hypervisor.unmap(cpu, first, G)

    if reads:

        @m.device(BDF)
        async def reader(device: Device) -> None:
            await device.read(G)


@pytest.mark.parametrize("reads", [True, False])
def test_a_stale_path_to_a_frame_that_was_given_away_is_told_by_its_release_only(*, reads: bool) -> None:
    parameters = "synchronous=true walk_at_once=true levels=3"
    (found,) = causes(lambda m: gives_away(m, frees=True, reads=reads), parameters)
    assert (found.kind, found.domain, found.frame) == (FindingKind.RELEASED, 1, FRAME)
    assert causes(lambda m: gives_away(m, frees=False, reads=reads), parameters) == {}


def test_a_late_access_to_a_frame_that_was_given_away_is_told_as_that_only() -> None:
    def program(m: Machine) -> None:
        first, second = m.domain(1, devices=(BDF,)), m.domain(2)
        frame = m.allocate(domain=first)
        m.premap(first, G, frame, cached=True)

        @m.cpu(0)
        async def owner(cpu: Cpu) -> None:
            await m.hypervisor.unmap(cpu, first, G)
            await m.pages.put(cpu, frame)
            await m.pages.allocate(cpu, second)

        @m.device(BDF)
        async def writer(device: Device) -> None:
            await device.write(G, 1)

    parameters = "synchronous=true walk_at_once=true levels=3"
    assert kinds(program, f"drain=false {parameters}") == {FindingKind.LATE}
    assert kinds(program, f"drain=true {parameters}") == set()


def test_a_withdrawal_after_which_the_frame_is_freed_before_the_flush_is_told_by_the_release_only() -> None:
    async def body(m: Machine, cpu: Cpu, owner: Domain, other: Domain, frame: Mfn) -> None:
        await m.pages.withdraw(cpu, frame, other)
        await m.pages.put(cpu, frame)

    (found,) = causes(on_one_cpu(body, let=READ_WRITE, as_=READ_WRITE))
    assert (found.kind, found.domain) == (FindingKind.RELEASED, 2)


@pytest.mark.parametrize("is_own", [True, False])
def test_nobody_maps_a_page_table(*, is_own: bool) -> None:
    def program(m: Machine) -> None:
        owner, other, _ = two_domains(m)
        table = address_frame((other if is_own else owner).pgd)
        m.let_map(table, other)

        @m.cpu(0)
        async def mapper(cpu: Cpu) -> None:
            await m.hypervisor.map(cpu, other, G, table)

    def twin(m: Machine) -> None:
        _, other, _ = two_domains(m)
        data = m.allocate(domain=other)

        @m.cpu(0)
        async def mapper(cpu: Cpu) -> None:
            await m.hypervisor.map(cpu, other, G, data)

    assert list(causes(program)) == [broken(Act.MAP, frame=Mfn(0x102000 if is_own else 0x101000))]
    assert causes(twin) == {}


def test_a_page_table_that_a_device_reads_is_found() -> None:
    def program(m: Machine) -> None:
        domain = m.domain(2, devices=(BDF,))
        m.premap(domain, G, address_frame(domain.pgd))

        @m.device(BDF)
        async def reader(device: Device) -> None:
            await device.read(G)

    assert list(causes(program)) == [broken(Act.ACCESS, BDF, frame=Mfn(0x101000))]


@pytest.mark.parametrize(
    ("maps_all", "shown"), [(True, set()), (False, {FindingKind.NOT_ISOLATED, FindingKind.RELEASED})]
)
def test_a_domain_that_maps_all_may_reach_what_guests_get_and_lose(shown: set[FindingKind], *, maps_all: bool) -> None:
    def program(m: Machine) -> None:
        hardware_domain, guest = m.domain(0, devices=(BDF,), maps_all=maps_all), m.domain(1)
        first, second = (m.allocate(domain=guest) for _ in range(2))
        m.premap(hardware_domain, Dfn(first), first, cached=True)

        @m.cpu(0)
        async def toolstack(cpu: Cpu) -> None:
            await m.hypervisor.map(cpu, hardware_domain, Dfn(second), second)
            await m.pages.put(cpu, first)
            assert await m.pages.allocate(cpu, guest) == first

        @m.device(BDF)
        async def reader(device: Device) -> None:
            await device.read(Dfn(first))

    assert kinds(program, "synchronous=true walk_at_once=true levels=3") == shown


def test_the_tables_of_a_domain_that_maps_all_are_released_like_any() -> None:
    def program(m: Machine) -> None:
        domain = m.domain(0, devices=(BDF,), maps_all=True)
        m.premap(domain, G, m.allocate(), cached=True)

        @m.cpu(0)
        async def owner(cpu: Cpu) -> None:
            await m.hypervisor.unmap(cpu, domain, G)
            await m.tables.take_out(cpu, domain, G)
            await cpu.process_pending_softirqs()

    assert kinds(program) == {FindingKind.RELEASED}


def test_a_frame_that_no_domain_or_domid_io_owns_is_not_judged() -> None:
    def program(m: Machine) -> None:
        one, two = m.domain(1, devices=(BDF,)), m.domain(2, devices=("00:02.0",))
        frames = m.allocate(), m.allocate(domain=m.domain(DOMID_IO))

        @m.cpu(0)
        async def mapper(cpu: Cpu) -> None:
            for domain in (one, two):
                for number, frame in enumerate(frames):
                    await m.hypervisor.map(cpu, domain, Dfn(G + number), frame)

    assert causes(program) == {}


def test_tables_that_translate_for_no_device_lead_nowhere() -> None:
    def program(m: Machine, *, attached: bool) -> None:
        owner, other = m.domain(1), m.domain(2)
        m.plug(BDF)
        frame = m.allocate(domain=owner)

        @m.cpu(0)
        async def mapper(cpu: Cpu) -> None:
            if attached:
                await m.assignment.attach(cpu, other, m.devices[BDF])
            await m.hypervisor.map(cpu, other, G, frame)

    assert causes(lambda m: program(m, attached=False)) == {}
    assert list(causes(lambda m: program(m, attached=True))) == [broken(Act.MAP)]


def test_a_stale_path_to_a_frame_that_the_domain_may_use_is_not_judged_here() -> None:
    def program(m: Machine) -> None:
        domain = m.domain(2, devices=(BDF,))
        old, new = m.allocate(domain=domain), m.allocate(domain=domain)
        m.premap(domain, G, old, cached=True)

        @m.cpu(0)
        async def replacer(cpu: Cpu) -> None:
            await m.hypervisor.map(cpu, domain, G, new)

        @m.cpu(1)
        async def withdrawer(cpu: Cpu) -> None:
            await m.pages.withdraw(cpu, old, domain)

        @m.device(BDF)
        async def reader(device: Device) -> None:
            await device.read(G)

    assert causes(program, "synchronous=true walk_at_once=true levels=3") == {}


def test_leave_to_map_is_given_before_the_first_step_or_by_a_step(execute: Execute) -> None:
    machine = Machine(Description())
    _, other, frame = two_domains(machine)
    with pytest.raises(ScenarioError, match="belongs to nobody"):
        machine.let_map(machine.allocate(), other)

    @machine.cpu(0)
    async def late(cpu: Cpu) -> None:
        machine.let_map(frame, other)

    with pytest.raises(ModelError, match=r"await m\.pages\.let_map"):
        execute(machine)


def test_an_access_by_way_of_a_table_that_was_freed_is_told_by_the_release_of_the_table_only() -> None:
    def program(m: Machine) -> None:
        domain, taker = m.domain(1, devices=(BDF,)), m.domain(2)
        m.premap(domain, G, m.allocate(domain=domain))
        frame = m.allocate(domain=taker)

        @m.cpu(0)
        async def owner(cpu: Cpu) -> None:
            await m.hypervisor.unmap(cpu, domain, G)
            await m.tables.take_out(cpu, domain, G)
            await cpu.process_pending_softirqs()
            table = frame_address(await m.pages.allocate(cpu, taker))
            leaf = domain.format.encode_leaf(frame_address(frame), read=True, write=True)
            await cpu.store64(domain.format.entry_address(table, G, 1), leaf)

        @m.device(BDF)
        async def reader(device: Device) -> None:
            await device.read(G)

    assert kinds(program, "synchronous=true levels=3") == {FindingKind.RELEASED}


def test_a_store_into_a_table_that_was_freed_is_told_as_that_only() -> None:
    def program(m: Machine) -> None:
        _, other, frame = two_domains(m)
        m.premap(other, Dfn(G + 1), m.allocate())

        @m.cpu(0)
        async def destroyer(cpu: Cpu) -> None:
            await m.tables.free_all(cpu, other)
            await m.hypervisor.map(cpu, other, G, frame)

    assert kinds(program) == {FindingKind.FREED_TABLE, FindingKind.RELEASED}


def test_a_leaf_in_tables_that_no_unit_walks_any_more_leads_nowhere() -> None:
    def program(m: Machine) -> None:
        _, other, frame = two_domains(m)

        @m.cpu(0)
        async def toolstack(cpu: Cpu) -> None:
            await m.assignment.detach(cpu, other, m.devices[BDF])
            await m.hypervisor.map(cpu, other, G, frame)

    assert causes(program) == {}


@pytest.mark.parametrize(("frees", "shown"), [(False, {FindingKind.NOT_ISOLATED}), (True, set())])
def test_a_frame_is_a_page_table_before_a_domain_gets_it_and_until_it_is_freed(
    shown: set[FindingKind], *, frees: bool
) -> None:
    def program(m: Machine) -> None:
        domain = m.domain(1, devices=(BDF,))
        m.premap(domain, G, m.allocate())
        m.premap(domain, FAR, m.allocate())
        table = Mfn(0x101003 if frees else 0x101010)

        @m.cpu(0)
        async def owner(cpu: Cpu) -> None:
            await m.hypervisor.unmap(cpu, domain, G)
            if frees:
                assert await m.tables.take_out(cpu, domain, G)
                await m.hypervisor.flush_all(cpu, domain)
                await cpu.process_pending_softirqs()
            await m.hypervisor.map(cpu, domain, FAR, table)
            if frees:
                assert await m.pages.allocate(cpu, domain) == table

    assert kinds(program) == shown


def test_whether_a_frame_is_let_depends_on_when_it_is_freed_and_given_away() -> None:
    def program(m: Machine) -> None:
        owner, other, frame = two_domains(m)

        @m.cpu(0)
        async def granter(cpu: Cpu) -> None:
            await m.pages.let_map(cpu, frame, other)

        @m.cpu(1)
        async def freer(cpu: Cpu) -> None:
            await m.pages.put(cpu, frame)
            await m.pages.allocate(cpu, owner)

    assert explored(scenario(expect=CLEAN, sequential=True)(program), "").done == 3


def test_a_section_that_maps_a_frame_of_its_domain_is_short() -> None:
    def program(m: Machine) -> None:
        _, other, _ = two_domains(m)
        for number in range(2):
            m.premap(other, Dfn(G + number), m.allocate(domain=other))
        frames = [m.allocate(domain=other) for _ in range(2)]

        @m.cpu(0)
        async def first(cpu: Cpu) -> None:
            await m.hypervisor.map(cpu, other, G, frames[0])

        @m.cpu(1)
        async def second(cpu: Cpu) -> None:
            await m.hypervisor.map(cpu, other, Dfn(G + 1), frames[1])

    done = explored(scenario(expect=CLEAN, sequential=True)(program), "synchronous=true")
    assert done.coverage.short_locks == ["d2.mapping_lock"]
    assert done.causes == {}
