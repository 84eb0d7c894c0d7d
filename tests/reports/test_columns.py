"""An interleaving in columns: which steps are shown, and how they are laid out."""

import re

import pytest

from emu.analysis.relevant import RANKS
from emu.checks.findings import Stale, Stuck
from emu.cpus import Cpu
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.reports.columns import LINES_MAX, OTHERS, Row, fitted
from emu.reports.finding_report import FindingReport
from emu.reports.step_texts import TEXTS
from emu.reports.vocabulary import EVENTS
from emu.running.run import Run
from emu.units import Dfn
from tests.reports.told import bundled_reports, report, reports_of
from tests.running.explored import bundled_with

G, H = Dfn(0x1000), Dfn(0x2000)


def row(step: int, agent: str, text: str = "does it", rank: int = 1, *, is_marked: bool = False) -> Row:
    """Return a row; the number of the agent is its last digit."""
    return Row(step, agent, (agent,), (0, int(agent[-1])), text, rank, is_marked, "emu/hypervisor/merged/vtd.py:33")


@pytest.mark.parametrize("width", [60, 80, 130])
def test_no_table_of_a_scenario_has_more_than_40_lines_or_is_wider_than_the_terminal(width: int) -> None:
    tables = [one.columns(width) for one in bundled_reports()]
    assert len(tables) > 40
    assert all(tables)
    assert max(map(len, tables)) <= LINES_MAX == 40
    assert max(len(line) for table in tables for line in table) <= width


def test_every_step_of_a_fact_is_marked() -> None:
    for one in bundled_reports():
        marked = {row.step for row in one.rows if row.is_marked}
        assert marked == {step for fact in one.facts for step in fact.steps}
        shown = {int(line.split()[1]) for line in one.columns(80) if line.startswith(">")}
        assert shown == marked


def test_lines_for_folded_steps_count_what_is_left_out() -> None:
    for one in bundled_reports():
        table = one.columns(200)
        folded = sum(int(found[1]) for line in table if (found := re.match(r" +\.\.\.  (\d+) steps?$", line)))
        steps = {int(found[1]) for line in table if (found := re.match(r"[> ] +(\d+)  ", line))}
        assert folded + len(steps - {0}) == one.machine.trace.step


def test_each_agent_has_a_column_and_only_agents_that_matter_do() -> None:
    (told,) = reports_of("remap_before_flush", "revision=merged iommu=amd")
    header, below, *table = told.columns(80)
    starts = {name: header.index(name) for name in ("cpu0", "cpu1", "00:1f.0", "amd0")}
    assert below.index("(by emu)") == starts["00:1f.0"]
    texts = {row.step: (starts[row.agent.removesuffix(" (witness)")], row.text) for row in told.rows if row.step}
    for line in table:
        if not line.startswith("   ...") and line.split()[0] != "0":
            number = int(line[1:6])
            start, text = texts[number]
            assert line[start:] == text
            assert not line[6:start].strip()


def idle_beside(told_of: str) -> Machine:
    """Return a machine after a CPU has unmapped a page without a flush, and another one has done something else."""
    machine = Machine(Description(sources=True, revision="merged"))
    domain = machine.domain(1, devices=("00:1f.0",))
    machine.premap(domain, G, machine.allocate())
    machine.premap(domain, H, machine.allocate())
    other = machine.domain(2)
    machine.premap(other, H, machine.allocate())

    @machine.cpu(0)
    async def first(cpu: Cpu) -> None:
        await domain.ops.unmap_page(cpu, domain, G)
        await machine.hypervisor.unmap(cpu, domain, G)

    @machine.cpu(1)
    async def second(cpu: Cpu) -> None:
        if told_of == "memory":
            for _ in range(9):
                await cpu.load64(0)
        elif told_of == "another domain":
            await other.ops.unmap_page(cpu, other, H)
        else:
            await machine.hypervisor.unmap(cpu, domain, H)

    execution = machine.execution(RoundRobinStrategy())
    direct.run(execution)
    machine.conclude(execution)
    return machine


@pytest.mark.parametrize("told_of", ["memory", "another domain"])
def test_what_cannot_influence_the_findings_own_steps_is_folded(told_of: str) -> None:
    machine = idle_beside(told_of)
    finding = next(one for one in machine.findings if isinstance(one, Stale) and one.dfn == G)
    told = report(finding, machine)
    assert {row.agent for row in told.rows} == {"cpu0"}
    assert any("d1:0x1000 = not present" in row.text for row in told.rows)


def test_a_section_of_a_lock_is_shown_only_if_something_that_matters_happens_in_it() -> None:
    run = Run(bundled_with("unmap_twice_before_flush", "order=3 revision=merged"), "random", 0, 9)
    run.on("direct")
    assert run.reported is not None
    told = report(run.reported.findings[0], run.reported.machine)
    taken = [event for event in told.shown.events if event.name == "lock.acquire" and "mapping" in event.fields["lock"]]
    locked = [row.agent for row in told.rows if row.text.startswith("lock d1.mapping_lock")]
    assert len(taken) == 16
    assert 0 < len(locked) < 8


def test_what_a_device_used_while_it_was_right_is_folded() -> None:
    run = Run(bundled_with("remap_before_flush", "dma=8"), "random", 23, 1)
    run.on("direct")
    assert run.reported is not None
    (finding,) = run.reported.findings
    assert isinstance(finding, Stale)
    uses = [row.step for row in report(finding, run.reported.machine).rows if row.text.startswith("read 0x1000")]
    assert len(uses) == 1
    assert uses[0] > finding.step


def test_the_least_relevant_steps_are_folded_first() -> None:
    rows = [*(row(10 * step, "cpu0", rank=1) for step in range(1, 21)), row(5, "cpu1", rank=4), row(15, "cpu1", rank=5)]
    shown, lines = fitted(rows, 200)
    assert len(lines) <= LINES_MAX
    assert {one.step for one in shown} <= {10 * step for step in range(1, 21)}
    assert fitted(rows[15:], 200)[0][0].agent == "cpu1"


def test_agents_that_do_not_fit_share_the_last_column_by_their_names() -> None:
    rows = [row(step, f"cpu{step}", rank=step) for step in range(1, 10)]
    header, *lines = fitted(rows, 9, 60)[1]
    assert header.split() == ["step", "cpu1", "cpu2", "cpu3", "cpu4", "cpu5", OTHERS]
    assert [line.split(maxsplit=1)[1] for line in lines[-2:]] == ["cpu8: does it", "cpu9: does it"]
    assert all(line.index("cpu") == header.index(OTHERS) for line in lines[5:])
    assert max(map(len, [header, *lines])) <= 60


def test_a_text_that_does_not_fit_is_wrapped_below_itself() -> None:
    text = "a text that is much longer than what is left of the line"
    _, first, *more = fitted([row(1, "cpu1", text), row(2, "cpu2", text)], 2, 60)[1]
    assert " ".join(" ".join([first, *more]).split()) == f"1 {text} 2 {text}"
    assert max(map(len, [first, *more])) <= 60


def test_the_line_of_source_stands_at_the_right_of_a_wide_terminal() -> None:
    rows = [row(1, "cpu1"), row(2, "cpu2")]
    assert "vtd.py" not in "".join(fitted(rows, 2, 119)[1])
    _, *lines = fitted(rows, 2, 120)[1]
    assert [line.split()[-1] for line in lines] == ["merged/vtd.py:33"] * 2
    assert {len(line) for line in lines} == {120}


def test_waits_for_locks_of_a_deadlock_are_shown() -> None:
    machine = Machine(Description(sources=True))
    one, other = machine.domain(1).mapping_lock, machine.domain(2).mapping_lock

    @machine.cpu(0)
    async def first(cpu: Cpu) -> None:
        async with one.held(cpu), other.held(cpu):
            pass

    @machine.cpu(1)
    async def second(cpu: Cpu) -> None:
        async with other.held(cpu), one.held(cpu):
            pass

    execution = machine.execution(RoundRobinStrategy())
    direct.run(execution)
    (finding,) = machine.conclude(execution)
    assert isinstance(finding, Stuck)
    said = "\n".join(report(finding, machine).columns(80))
    assert re.search(r"^> +\d+  wait for d2.mapping_lock$", said, re.MULTILINE)
    assert re.search(r"^> +\d+ {10,}wait for d1.mapping_lock$", said, re.MULTILINE)


def test_the_same_execution_gives_the_same_table() -> None:
    one, other = (reports_of("unmap_twice_before_flush", "revision=merged") for _ in range(2))
    assert [told.columns(80) for told in one] == [told.columns(80) for told in other]


def test_a_trace_without_sources_has_a_table_too() -> None:
    (told, *_) = reports_of("unmap_fails_halfway")
    trace = told.machine.trace
    trace.sources = False
    try:
        assert FindingReport(told.finding, told.machine, told.shown).columns(80)
    finally:
        trace.sources = True


def test_texts_and_ranks_are_of_events_that_there_are() -> None:
    assert TEXTS.keys() <= EVENTS.keys()
    assert RANKS.keys() <= TEXTS.keys()
