"""Findings in words and as data."""

from collections.abc import Awaitable, Callable

import attrs
import orjson
import pytest

from emu.checks.details import Act, Use
from emu.checks.findings import (
    BeyondRange,
    Finding,
    ForeignAccess,
    Gap,
    Illegal,
    LostError,
    NotIsolated,
    Stuck,
    WrongResult,
)
from emu.checks.isolation import NOTHING
from emu.cpus import Cpu
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.hypervisor.assignment import HandOver
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import ENOMEM, MapFlags
from emu.hypervisor.records import HookFailure
from emu.iommus.formats import FAULT, Mapping
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.platforms import VTD
from emu.reports.findings import data, sentence
from emu.units import Dfn, Mfn

V1 = VTD.load_revision("v1")

G = Dfn(0x10)


async def unmap_without_flush(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
    result, _ = await domain.ops.unmap_page(cpu, domain, dfn)
    return result


def ran(body: Callable[[Machine, Cpu, Domain], Awaitable[object]]) -> Machine:
    """Return a machine after one CPU has run `body` with an unmap that never flushes."""
    machine = Machine(Description(sources=True))
    machine.hypervisor = attrs.evolve(machine.hypervisor, revision=attrs.evolve(V1, unmap=unmap_without_flush))
    domain = machine.domain(1, devices=("00:1f.0",))
    machine.premap(domain, G, machine.allocate())

    @machine.cpu(0)
    async def worker(cpu: Cpu) -> None:
        await body(machine, cpu, domain)

    execution = machine.execution(RoundRobinStrategy())
    direct.run(execution)
    machine.conclude(execution)
    return machine


async def unmap(machine: Machine, cpu: Cpu, domain: Domain) -> None:
    await machine.hypervisor.unmap(cpu, domain, G)


async def unmap_and_flush_later(machine: Machine, cpu: Cpu, domain: Domain) -> None:
    await unmap(machine, cpu, domain)
    await machine.hypervisor.flush_all(cpu, domain)


def test_a_flush_that_never_came_is_told_with_the_call_that_lacked_it() -> None:
    machine = ran(unmap)
    (finding,) = machine.findings
    words = sentence(finding, machine.trace)
    assert words.startswith("stale translation (possible): when cpu0's unmap of domain 1 dfn 0x10 returned at step 9")
    assert "vtd0 could still translate dfn 0x10 to mfn 0x180002: cpu0 had replaced that entry at step 7" in words
    assert (
        "no flush of it followed: cpu0's unmap returned without one at step 9 (tests/reports/test_findings.py:" in words
    )
    assert words.endswith("the window was open from step 7 to the end of the execution at step 9")


def test_a_flush_that_came_late_is_named_with_its_steps() -> None:
    machine = ran(unmap_and_flush_later)
    (finding,) = machine.findings
    facts = data(finding, machine.trace)
    assert (facts["changed_by"], facts["changed"], facts["step"]) == ("cpu0", 7, 9)
    assert facts["flush"]["submitted"] > 9
    assert facts["window"] == facts["flush"]["completed"] - 7
    assert "only a later call's flush has removed it: cpu0 submitted it at step" in facts["message"]
    orjson.dumps(facts)


def test_a_deadlock_names_each_waiting_cpu_its_lock_and_the_holder() -> None:
    machine = Machine(Description())
    domain = machine.domain(1)
    never = machine.signal("never")

    @machine.cpu(0)
    async def holder(cpu: Cpu) -> None:
        async with domain.mapping_lock.held(cpu):
            await never.wait()

    @machine.cpu(1)
    async def waiter(cpu: Cpu) -> None:
        async with domain.mapping_lock.held(cpu):
            pass

    execution = machine.execution(RoundRobinStrategy())
    direct.run(execution)
    (finding,) = machine.conclude(execution)
    assert isinstance(finding, Stuck)
    words = sentence(finding, machine.trace)
    assert "cpu0 waits for the signal 'never' since step 3" in words
    assert "cpu1 waits for the lock d1.mapping_lock since step 2, held by cpu0 since step 1" in words
    assert data(finding, machine.trace)["deadlock"]["waiters"][1]["holder"] == "cpu0"


@pytest.mark.parametrize(
    ("owners", "said"),
    [
        ((2,), "domain 2, which had the device then, had programmed the access"),
        ((2, 1), "domain 2 had programmed the access before the device went to domain 1"),
        ((2, None), "domain 2 had programmed the access before the device was taken away"),
    ],
)
def test_a_foreign_access_names_the_domain_that_had_the_device(owners: tuple[int | None, ...], said: str) -> None:
    machine = Machine(Description())
    machine.domain(1, devices=("00:1f.0",))
    machine.domain(2)

    @machine.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        for owner in owners:
            await HandOver(machine.devices["00:1f.0"], owner, is_failed=True)
        await cpu.load64(0)

    direct.run(machine.execution(RoundRobinStrategy()))
    finding = ForeignAccess("00:1f.0", machine.trace.step, "vtd0", G, Mfn(0x180002), 2, 1)
    assert sentence(finding, machine.trace).endswith(said)


def not_isolated(
    act: Act, *, is_table: bool = False, allowed: MapFlags = NOTHING, use: Use | None = None
) -> NotIsolated:
    """Return the finding that domain 2 may reach a frame, or does."""
    return NotIsolated(
        agent="00:1f.0" if act is Act.ACCESS else "cpu0",
        act=act,
        step=9,
        domain=2,
        dfn=G,
        frame=Mfn(0x180002),
        unit="vtd0",
        owner=1,
        is_table=is_table,
        allowed=allowed,
        use=use,
    )


USED = Use("00:1f.0", 20)


@pytest.mark.parametrize(
    ("finding", "parts"),
    [
        (
            not_isolated(Act.MAP),
            (
                "not isolated (possible): at step 9 cpu0 mapped mfn 0x180002 at domain 2 dfn 0x10, ",
                "for vtd0 to translate, although it belongs to domain 1, and domain 2 may not map it",
            ),
        ),
        (
            not_isolated(Act.MAP, allowed=MapFlags.READABLE, use=USED),
            (
                "not isolated (observed): at step 9 cpu0 mapped mfn 0x180002 at domain 2 dfn 0x10, ",
                "for vtd0 to translate, and device 00:1f.0 accessed it at step 20, ",
                "although it belongs to domain 1, and domain 2 may only read it",
            ),
        ),
        (
            not_isolated(Act.WITHDRAW),
            (
                "not isolated (possible): at step 9 cpu0 ended the right of domain 2 to map mfn 0x180002, ",
                "although vtd0 could still translate domain 2 dfn 0x10 to it",
            ),
        ),
        (
            not_isolated(Act.ACCESS, is_table=True, use=USED),
            (
                "not isolated (observed): at step 9 device 00:1f.0 accessed mfn 0x180002, ",
                "at domain 2 dfn 0x10 through vtd0, although it is a page table of domain 1",
            ),
        ),
    ],
)
def test_a_frame_that_is_not_isolated_is_told_with_the_act_and_the_reason_against_it(
    finding: NotIsolated, parts: tuple[str, ...]
) -> None:
    trace, words = Machine(Description()).trace, "".join(parts)
    assert sentence(finding, trace) == words
    facts = orjson.loads(orjson.dumps(data(finding, trace)))
    assert (facts["message"], facts["evidence"], facts["act"]) == (words, finding.evidence.value, finding.act.value)


@pytest.mark.parametrize(
    ("finding", "part"),
    [
        (
            LostError("cpu0", "map", 40, 0, G, 4, HookFailure("map_page", Dfn(0x12), 1, ENOMEM, 20)),
            "dfn 0x10, 4 pages returned success at step 40, although hook map_page had failed with -ENOMEM on dfn 0x12",
        ),
        (
            LostError("cpu0", "hwdom_init", 40, 0, G, 4, HookFailure("iotlb_flush", Dfn(0), 0, ENOMEM, 20), False),
            "returned and logged nothing at step 40, although hook iotlb_flush had failed with -ENOMEM on the whole",
        ),
        (
            BeyondRange("cpu0", "map", 40, 1, G, 1, Dfn(0x11), 2),
            "cpu0's map of domain 1 dfn 0x10 changed what domain 2 maps at dfn 0x11, which is outside of that range",
        ),
        (
            BeyondRange("cpu0", None, 40, 1, G, 1, G, 1),
            "at step 40 cpu0 changed what domain 1 maps at dfn 0x10, outside of any call",
        ),
        (
            Gap("cpu0", "map", 40, 1, G, 2, Dfn(0x11), 20),
            "returned at step 40, and had mapped dfn 0x11 again, which was mapped before and unmapped since step 20",
        ),
        (
            WrongResult("cpu0", "map", 9, 1, G, 1, G, Mapping(Mfn(0x1A), True, True), Mapping(Mfn(0x1A), True, False)),
            "and it had left dfn 0x10 mapped to mfn 0x1a to read and write; the page should be mapped to mfn 0x1a ",
        ),
        (
            WrongResult("cpu0", "unmap", 9, 1, G, 1, G, None, FAULT.maps(G)),
            "and it had neither read nor stored the entry of dfn 0x10; the page should be unmapped",
        ),
        (Illegal("00:1f.0", 7, "vtd0", G, 0x1003), "used leaf 0x1003 of dfn 0x10 at vtd0, which the ledger forbids"),
    ],
)
def test_other_findings_are_one_sentence_and_json(finding: Finding, part: str) -> None:
    trace = Machine(Description()).trace
    assert part in sentence(finding, trace)
    assert orjson.loads(orjson.dumps(data(finding, trace)))["kind"] == finding.kind.value
