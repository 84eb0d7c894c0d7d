"""The promise owed: what a call puts off must be paid when its hypercall ends, whoever pays."""

from collections.abc import Awaitable, Callable

import pytest

from emu.checks.details import Payment
from emu.checks.findings import Finding, FindingKind, Owed, Released
from emu.checks.signatures import signature
from emu.cpus import Cpu
from emu.errors import ModelError
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import ENOMEM, iommu_dont_flush_iotlb
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.reports.findings import data, sentence
from emu.units import Dfn, Mfn, offset

Execute = Callable[..., list[Finding]]
Pay = Callable[[Machine, Cpu], Awaitable[object]]

G = Dfn(0x30)
NEW = Mfn(0x190000)
"""A frame that no machine here hands out."""


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
    await set_flag(cpu)
    await machine.hypervisor.map(cpu, machine.domains[1], dfn, NEW)
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


async def flush_wrong_page_and_other_domain(machine: Machine, cpu: Cpu) -> None:
    await flush_wrong_page(machine, cpu)
    await flush_other_domain(machine, cpu)


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
        assert isinstance(finding, Owed)
        assert (finding.kind, finding.promise) == (FindingKind.OWED, "owed")
    return [finding.dfn for finding in findings if isinstance(finding, Owed)]


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


@pytest.mark.parametrize(("failing", "owed"), [(offset(G, 1), [G, G]), (G, [])])
@pytest.mark.parametrize("is_paid", [True, False])
def test_a_map_that_fails_owes_the_flush_of_what_it_has_replaced_and_of_what_it_has_taken_back(
    execute: Execute, is_paid: bool, failing: Dfn, owed: list[Dfn]
) -> None:
    machine = machine_of(Description(revision="merged"))
    machine.fail_hook("map_page", failing, ENOMEM)
    new = machine.allocate(page_order=1)

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await set_flag(cpu)
            assert await machine.hypervisor.map(cpu, machine.domains[1], G, new, page_order=1) == ENOMEM
            await cpu.write(iommu_dont_flush_iotlb, False)
            if is_paid:
                await flush_page(machine, cpu)

    findings = execute(machine)
    assert owed_pages(findings) == ([] if is_paid else owed)
    assert {finding.frame for finding in findings if isinstance(finding, Owed)} <= {machine.domains[1].p2m[G], new}


def test_after_an_unmap_a_map_that_fails_leaves_both_their_flushes_owed(execute: Execute) -> None:
    machine = machine_of(Description(revision="merged"))
    machine.fail_hook("map_page", offset(G, 1), ENOMEM)
    domain, old, new = machine.domains[1], machine.domains[1].p2m[G], machine.allocate(page_order=1)

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await set_flag(cpu)
            await machine.hypervisor.unmap(cpu, domain, G)
            await machine.hypervisor.map(cpu, domain, G, new, page_order=1)
            await cpu.write(iommu_dont_flush_iotlb, False)

    findings = execute(machine)
    assert {(one.debt.call, one.frame) for one in findings if isinstance(one, Owed)} == {("unmap", old), ("map", new)}


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
    assert isinstance(finding, Owed)
    names = [event.name for event in machine.trace.events() if event.step == finding.step]
    assert names == ["hypercall.settle"]
    assert [event.name for event in machine.trace.events()][-2:] == ["hypercall.exit", "hypercall.settle"]


def owing(execute: Execute, *, clears: bool) -> tuple[Machine, Owed]:
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
    assert isinstance(finding, Owed)
    return machine, finding


def test_a_debt_is_told_as_a_flush_owed_by_the_hypercall_that_ended(execute: Execute) -> None:
    machine, finding = owing(execute, clears=True)
    words = sentence(finding, machine.trace)
    assert words.startswith(
        "flush owed (possible): when cpu0's hypercall, which had put off the flush of its map of domain 1 dfn 0x30, "
        f"ended at step {finding.step} (tests/checks/test_owed.py:"
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

    with pytest.raises(
        ModelError, match=r'write `async with cpu\.hypercall\("name"\):` \(cpu0, at tests/checks/test_owed\.py:\d+'
    ):
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
    assert all(isinstance(finding, Owed) and finding.step == settled for finding in findings)


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


def payments(findings: list[Finding]) -> list[Payment | None]:
    owed_pages(findings)
    return [finding.payment for finding in findings if isinstance(finding, Owed)]


@pytest.mark.parametrize(
    ("later", "payment"),
    [
        (flush_page, Payment.LATE),
        (flush_both_pages, Payment.LATE),
        (flush_domain, Payment.LATE),
        (flush_wrong_page, Payment.NEVER),
        (flush_other_domain, Payment.NEVER),
        (flush_nothing, Payment.NEVER),
    ],
)
@pytest.mark.parametrize("number", [0, 1])
def test_a_debt_is_paid_late_by_any_flush_of_its_page_after_the_hypercall_and_otherwise_never(
    execute: Execute, later: Pay, payment: Payment, number: int
) -> None:
    machine = machine_of()
    ended = machine.signal("ended")

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await replace_deferred(machine, cpu)
        await ended.send()
        if number == 0:
            await later(machine, cpu)

    @machine.cpu(1)
    async def payer(cpu: Cpu) -> None:
        await ended.wait()
        if number == 1:
            await later(machine, cpu)

    assert payments(execute(machine)) == [payment]


@pytest.mark.parametrize(
    ("pay", "payment"),
    [
        (flush_wrong_page, Payment.WRONG_RANGE),
        (flush_wrong_page_and_other_domain, Payment.WRONG_RANGE),
        (flush_other_domain, Payment.WRONG_DOMAIN),
        (flush_nothing, Payment.NEVER),
    ],
)
def test_the_signature_of_a_debt_says_what_the_cpu_that_owed_it_has_flushed_instead(
    execute: Execute, pay: Pay, payment: Payment
) -> None:
    machine = machine_of()

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await replace_deferred(machine, cpu)
            await pay(machine, cpu)

    (finding,) = execute(machine)
    assert signature(finding, machine.trace).check == f"owed: {payment.value}"


@pytest.mark.parametrize("is_late", [True, False])
def test_the_signature_of_a_debt_tells_late_from_never(execute: Execute, is_late: bool) -> None:
    machine = machine_of()

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await replace_deferred(machine, cpu)
        if is_late:
            await flush_page(machine, cpu)

    (finding,) = execute(machine)
    assert signature(finding, machine.trace).check == ("owed: late" if is_late else "owed: never")


@pytest.mark.parametrize("before", [flush_page, flush_wrong_page, flush_other_domain])
def test_a_flush_from_before_the_call_that_put_its_own_off_is_no_attempt_to_pay(execute: Execute, before: Pay) -> None:
    machine = machine_of()

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await before(machine, cpu)
            await replace_deferred(machine, cpu)

    assert payments(execute(machine)) == [Payment.NEVER]


@pytest.mark.parametrize("pay", [flush_wrong_page, flush_other_domain])
def test_what_another_cpu_flushes_is_no_attempt_to_pay(execute: Execute, pay: Pay) -> None:
    machine = machine_of()
    replaced, flushed = machine.signal("replaced"), machine.signal("flushed")

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await replace_deferred(machine, cpu)
            await replaced.send()
            await flushed.wait()

    @machine.cpu(1)
    async def other(cpu: Cpu) -> None:
        await replaced.wait()
        await pay(machine, cpu)
        await flushed.send()

    assert payments(execute(machine)) == [Payment.NEVER]


@pytest.mark.parametrize("is_released", [True, False])
@pytest.mark.parametrize("pay", [flush_nothing, flush_wrong_page])
def test_a_debt_whose_frame_is_released_after_the_hypercall_is_reported_once_as_released_and_named(
    execute: Execute, pay: Pay, is_released: bool
) -> None:
    machine = Machine(Description())
    domain = machine.domain(1, devices=("00:1f.0",))
    old = machine.allocate(domain=domain)
    machine.premap(domain, G, old)
    owed: list[Finding] = []

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await replace_deferred(machine, cpu)
            await pay(machine, cpu)
        owed.extend(machine.findings)
        if is_released:
            await machine.pages.put(cpu, old)

    (finding,) = execute(machine)
    assert owed_pages(owed) == [G]
    assert isinstance(finding, Released | Owed)
    assert finding.kind is (FindingKind.RELEASED if is_released else FindingKind.OWED)
    assert (finding.promise, finding.frame) == (finding.kind.value, old)
    assert finding.debt is not None
    assert (finding.debt.call, finding.debt.cpu.name, finding.debt.dfn) == ("map", "cpu0", G)
    assert ("cpu0's map had put the flush off" in sentence(finding, machine.trace)) is is_released


def test_a_release_replaces_only_the_debt_of_its_own_page(execute: Execute) -> None:
    machine = Machine(Description())
    domain = machine.domain(1, devices=("00:1f.0",))
    frames = [machine.allocate(domain=domain) for _ in range(2)]
    for page, frame in enumerate(frames):
        machine.premap(domain, offset(G, page), frame)

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            for page in range(2):
                await replace_deferred(machine, cpu, offset(G, page))
        await machine.pages.put(cpu, frames[1])

    findings = [finding for finding in execute(machine) if isinstance(finding, Released | Owed)]
    assert {(finding.kind, finding.dfn) for finding in findings} == {
        (FindingKind.OWED, G),
        (FindingKind.RELEASED, offset(G, 1)),
    }
    assert len(findings) == 2
