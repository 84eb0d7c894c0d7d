"""The promise owed: what a call puts off must be paid when its hypercall ends, whoever pays."""

from collections.abc import Awaitable, Callable

import pytest

from emu.checks.findings import Finding, FindingKind, Stale
from emu.cpus import Cpu
from emu.errors import ModelError
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import iommu_dont_flush_iotlb
from emu.machine import Description, Machine
from emu.reports.findings import data, sentence
from emu.units import Dfn, offset

Execute = Callable[..., list[Finding]]
Pay = Callable[[Machine, Cpu], Awaitable[object]]

G = Dfn(0x30)


def machine_of(description: Description | None = None) -> Machine:
    """Return a machine with a domain that has two pages, and with another domain."""
    machine = Machine(description or Description())
    domain = machine.domain(1, devices=("00:1f.0",))
    machine.domain(2, devices=("00:02.0",))
    for page in range(2):
        machine.premap(domain, offset(G, page), machine.allocate())
    return machine


async def set_flag(cpu: Cpu) -> None:
    await cpu.write(iommu_dont_flush_iotlb, True)


async def replace_deferred(machine: Machine, cpu: Cpu, dfn: Dfn = G) -> None:
    """Replace a page and leave its flush to whoever comes."""
    new = machine.allocate()
    await set_flag(cpu)
    await machine.hypervisor.map(cpu, machine.domains[1], dfn, new)
    await cpu.write(iommu_dont_flush_iotlb, False)


async def flush_page(machine: Machine, cpu: Cpu) -> None:
    await machine.hypervisor.flush(cpu, machine.domains[1], G, pages=1)


async def flush_both_pages(machine: Machine, cpu: Cpu) -> None:
    await machine.hypervisor.flush(cpu, machine.domains[1], G, pages=2)


async def flush_domain(machine: Machine, cpu: Cpu) -> None:
    await machine.hypervisor.flush_all(cpu, machine.domains[1])


async def flush_wrong_page(machine: Machine, cpu: Cpu) -> None:
    await machine.hypervisor.flush(cpu, machine.domains[1], offset(G, 1), pages=1)


async def flush_other_domain(machine: Machine, cpu: Cpu) -> None:
    await machine.hypervisor.flush_all(cpu, machine.domains[2])


async def flush_nothing(machine: Machine, cpu: Cpu) -> None:
    pass


PAYMENTS = pytest.mark.parametrize(
    ("pay", "pays"),
    [
        (flush_page, True),
        (flush_both_pages, True),
        (flush_domain, True),
        (flush_wrong_page, False),
        (flush_other_domain, False),
        (flush_nothing, False),
    ],
)


def owed_pages(findings: list[Finding]) -> list[Dfn]:
    """Return the pages whose flush was owed; there must be no finding of another kind."""
    for finding in findings:
        assert isinstance(finding, Stale)
        assert (finding.kind, finding.promise) == (FindingKind.OWED, "owed")
    return [finding.dfn for finding in findings if isinstance(finding, Stale)]


@PAYMENTS
def test_a_deferred_replacement_is_paid_only_by_a_flush_that_covers_it(execute: Execute, pay: Pay, pays: bool) -> None:
    machine = machine_of()

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await replace_deferred(machine, cpu)
            await pay(machine, cpu)

    assert owed_pages(execute(machine)) == ([] if pays else [G])


@PAYMENTS
def test_another_cpu_may_pay_but_only_with_a_flush_that_covers_the_page(execute: Execute, pay: Pay, pays: bool) -> None:
    machine = machine_of()
    replaced, paid = machine.signal("replaced"), machine.signal("paid")

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await replace_deferred(machine, cpu)
            await replaced.send()
            await paid.wait()

    @machine.cpu(1)
    async def payer(cpu: Cpu) -> None:
        await replaced.wait()
        await pay(machine, cpu)
        await paid.send()

    assert owed_pages(execute(machine)) == ([] if pays else [G])


@pytest.mark.parametrize("is_late", [True, False])
def test_a_flush_after_the_hypercall_has_ended_comes_too_late(execute: Execute, is_late: bool) -> None:
    machine = machine_of()

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await replace_deferred(machine, cpu)
            if not is_late:
                await flush_page(machine, cpu)
        if is_late:
            await flush_page(machine, cpu)

    assert owed_pages(execute(machine)) == [G] * is_late


@pytest.mark.parametrize("is_early", [True, False])
def test_a_flush_before_the_replacement_pays_nothing(execute: Execute, is_early: bool) -> None:
    machine = machine_of()

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            if is_early:
                await flush_page(machine, cpu)
            await replace_deferred(machine, cpu)
            if not is_early:
                await flush_page(machine, cpu)

    assert owed_pages(execute(machine)) == [G] * is_early


@pytest.mark.parametrize(("dfn", "owed"), [(G, [G]), (offset(G, 2), [])])
def test_nothing_is_owed_where_nothing_was_overwritten(execute: Execute, dfn: Dfn, owed: list[Dfn]) -> None:
    machine = machine_of()

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await replace_deferred(machine, cpu, dfn)

    assert owed_pages(execute(machine)) == owed


def test_every_page_that_was_put_off_is_owed(execute: Execute) -> None:
    machine = machine_of()

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await replace_deferred(machine, cpu, G)
            await replace_deferred(machine, cpu, offset(G, 1))

    assert owed_pages(execute(machine)) == [G, offset(G, 1)]


def test_each_hypercall_answers_for_what_it_has_put_off_itself(execute: Execute) -> None:
    machine = machine_of()

    @machine.cpu(0)
    async def batches(cpu: Cpu) -> None:
        async with cpu.hypercall("paying"):
            await replace_deferred(machine, cpu, G)
            await flush_page(machine, cpu)
        async with cpu.hypercall("owing"):
            await replace_deferred(machine, cpu, offset(G, 1))

    assert owed_pages(execute(machine)) == [offset(G, 1)]


def test_a_debt_is_judged_in_a_step_at_the_end_of_its_hypercall(execute: Execute) -> None:
    machine = machine_of()

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await replace_deferred(machine, cpu)

    (finding,) = execute(machine)
    assert isinstance(finding, Stale)
    names = [event.name for event in machine.trace.events() if event.step == finding.step]
    assert names == ["hypercall.settle"]
    assert [event.name for event in machine.trace.events()][-2:] == ["hypercall.exit", "hypercall.settle"]


def owing(execute: Execute, *, clears: bool) -> tuple[Machine, Stale]:
    """Run a hypercall that owes a flush, and either clears the flag or leaves it set."""
    machine = machine_of(Description(sources=True))
    new = machine.allocate()

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await set_flag(cpu)
            await machine.hypervisor.map(cpu, machine.domains[1], G, new)
            if clears:
                await cpu.write(iommu_dont_flush_iotlb, False)

    (finding,) = execute(machine)
    assert isinstance(finding, Stale)
    return machine, finding


def test_a_debt_is_told_as_a_flush_owed_by_the_hypercall_that_ended(execute: Execute) -> None:
    machine, finding = owing(execute, clears=True)
    words = sentence(finding, machine.trace)
    assert words.startswith(
        "flush owed (possible): when the hypercall of cpu0 that had deferred its map of domain 1 dfn 0x30 ended at "
        f"step {finding.step} (tests/checks/test_owed.py:"
    )


def test_a_flag_that_was_left_set_is_named_with_the_step_and_the_line_that_set_it(execute: Execute) -> None:
    machine, finding = owing(execute, clears=False)
    (set_at,) = [event.step for event in machine.trace.events() if event.name == "percpu.write"]
    line = f"tests/checks/test_owed.py:{set_flag.__code__.co_firstlineno + 1}"
    words = sentence(finding, machine.trace)
    assert f"iommu_dont_flush_iotlb was still set, since step {set_at} ({line})" in words


def test_a_flag_that_was_left_set_is_in_the_data_with_the_step_and_the_line(execute: Execute) -> None:
    machine, finding = owing(execute, clears=False)
    (set_at,) = [event.step for event in machine.trace.events() if event.name == "percpu.write"]
    line = f"tests/checks/test_owed.py:{set_flag.__code__.co_firstlineno + 1}"
    assert list(data(finding, machine.trace)["flag_set"]) == [set_at, line]


def test_a_flag_that_was_cleared_is_not_named(execute: Execute) -> None:
    machine, finding = owing(execute, clears=True)
    assert "iommu_dont_flush_iotlb" not in sentence(finding, machine.trace)


@pytest.mark.parametrize("call", ["map", "unmap"])
def test_a_deferred_call_outside_of_a_hypercall_is_refused_with_the_mend(execute: Execute, call: str) -> None:
    machine = machine_of()
    new = machine.allocate()

    @machine.cpu(0)
    async def careless(cpu: Cpu) -> None:
        await set_flag(cpu)
        if call == "map":
            await machine.hypervisor.map(cpu, machine.domains[1], G, new)
        else:
            await machine.hypervisor.unmap(cpu, machine.domains[1], G)

    with pytest.raises(ModelError, match=r'write `async with cpu\.hypercall\("name"\):` \(cpu0, at test_owed\.py:\d+'):
        execute(machine)


def test_a_deferred_call_after_its_cpus_hypercall_has_ended_is_outside_of_it(execute: Execute) -> None:
    machine = machine_of()

    @machine.cpu(0)
    async def careless(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await replace_deferred(machine, cpu)
            await flush_page(machine, cpu)
        await replace_deferred(machine, cpu)

    with pytest.raises(ModelError, match="belongs into a hypercall"):
        execute(machine)


async def own_domain(machine: Machine, cpu: Cpu, guest: Domain) -> None:
    await machine.hypervisor.flush_all(cpu, machine.domains[2])


async def interrupted_domain(machine: Machine, cpu: Cpu, guest: Domain) -> None:
    await machine.hypervisor.flush_all(cpu, guest)


@pytest.mark.parametrize(("flush", "pays"), [(own_domain, False), (interrupted_domain, True)])
def test_what_a_softirq_has_put_off_is_owed_by_the_hypercall_that_it_interrupted(
    execute: Execute, flush: Callable[[Machine, Cpu, Domain], Awaitable[None]], pays: bool
) -> None:
    machine = machine_of()
    guest, new, own = machine.domains[1], machine.allocate(), machine.allocate()

    async def replace(cpu: Cpu) -> None:
        await machine.hypervisor.map(cpu, guest, G, new)

    @machine.cpu(0)
    async def builder(cpu: Cpu) -> None:
        async with cpu.hypercall("builder"):
            cpu.raise_softirq(replace)
            await set_flag(cpu)
            await machine.hypervisor.map(cpu, machine.domains[2], G, own)
            await cpu.process_pending_softirqs()
            await cpu.write(iommu_dont_flush_iotlb, False)
            await flush(machine, cpu, guest)

    findings = execute(machine)
    (settled,) = [event.step for event in machine.trace.events() if event.name == "hypercall.settle"]
    assert owed_pages(findings) == ([] if pays else [G])
    assert all(isinstance(finding, Stale) and finding.step == settled for finding in findings)


@pytest.mark.parametrize("order", [0, 1])
def test_without_the_flag_a_hypercall_owes_nothing(execute: Execute, order: int) -> None:
    machine = machine_of()
    new = machine.allocate(page_order=order)

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        async with cpu.hypercall("mapper"):
            await machine.hypervisor.map(cpu, machine.domains[1], G, new, page_order=order)

    assert execute(machine) == []
    assert "hypercall.settle" not in {event.name for event in machine.trace.events()}
