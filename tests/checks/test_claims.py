"""A user's own claims: assertions of agents, and predicates that are to hold always or finally."""

import json
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emu.checks.findings import Asserted, FindingKind
from emu.checks.signatures import Signature
from emu.cpus import Cpu, PerCpu
from emu.devices.device import Device
from emu.engine import Access, Kind, Variable
from emu.engine.claims import When
from emu.engine.sources import PACKAGE
from emu.errors import ModelError, ScenarioError
from emu.hypervisor.bitmaps import Bitmap
from emu.hypervisor.domain import Domain
from emu.machine.claims import Read
from emu.machine.machine import Machine
from emu.reports.findings import data, sentence
from emu.running.run import Run
from emu.running.verdict import Verdict
from emu.scenarios.expectation import CLEAN, DEADLOCK, Expectation
from emu.scenarios.library import load
from emu.units import Dfn
from tests.running.explored import Body, explored, of

X, Y, Z = 0x1000, 0x2000, 0x3000
BDF = "00:1f.0"
G = Dfn(0x10)
ASSERTION = Expectation(FindingKind.ASSERTION)


def run(
    body: Body, expected: Expectation = CLEAN, *, strategy: str = "random", executions: int = 1, host: str = "direct"
) -> Run:
    done = Run(of(body, expected), strategy, 0, executions)
    done.on(host)
    return done


def shown(done: Run) -> list[Asserted]:
    assert done.failure is None
    assert done.reported is not None
    return [finding for finding in done.reported.findings if isinstance(finding, Asserted)]


def signature(claim: str, agent: str | None) -> Signature:
    return Signature(FindingKind.ASSERTION, claim, None, None, None, None, agent)


def stores(m: Machine, number: int, *words: int, value: int = 1) -> None:
    """Have a CPU store a value into words."""

    async def store(cpu: Cpu) -> None:
        for word in words:
            await cpu.store64(word, value)

    m.cpu(number).runs(store)


def at_most(m: Machine, *reads: Read) -> None:
    m.always("x is at most y", lambda: m.memory.peek(X) <= m.memory.peek(Y), reads=reads)


def cpu_asserts(m: Machine) -> None:
    """One of two traces breaks the assertion."""
    stores(m, 0, X)

    @m.cpu(1)
    async def loader(cpu: Cpu) -> None:
        loaded = await cpu.load64(X)
        assert loaded == 1, f"x is 1, not {loaded}\nand so on"
        await cpu.load64(Y)


def device_asserts(m: Machine) -> None:
    """A device expects what the CPU may not yet have stored."""
    domain: Domain = m.domain(1, devices=(BDF,))
    frame = m.allocate()
    m.premap(domain, G, frame, cached=True)
    stores(m, 0, frame << 12)

    @m.device(BDF)
    async def reader(device: Device) -> None:
        assert await device.read(G), "the page has content"


def waits_for_one_that_asserts(m: Machine) -> None:
    """Nobody sends the signal: the assertion is reported, and not that CPU 1 waits for ever."""
    signal = m.signal("go")

    @m.cpu(0)
    async def sender(cpu: Cpu) -> None:
        assert await cpu.load64(X), "x is set"
        await signal.send()

    @m.cpu(1)
    async def waiter(cpu: Cpu) -> None:
        await signal.wait()


def test_an_assertion_of_a_cpu_is_a_finding_of_the_executions_in_which_it_fails() -> None:
    done = explored(of(cpu_asserts, ASSERTION))
    assert list(done.causes) == [signature("x is 1, not 0", "cpu1")]
    (cause,) = done.causes.values()
    assert (cause.executions, done.done, done.verdict) == (1, 2, Verdict.SHOWN)


def test_an_assertion_names_its_line_and_step_and_ends_its_agent_alone() -> None:
    done = run(cpu_asserts, ASSERTION, executions=100)
    (finding,) = shown(done)
    line = next(n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "assert loaded == 1" in text)
    assert (finding.when, finding.agent, finding.step, finding.source) == (
        When.ASSERTED,
        "cpu1",
        1,
        f"test_claims.py:{line}",
    )
    assert done.reported is not None
    trace = done.reported.machine.trace
    assert [(agent.name, type(one).__name__) for agent, one in trace.performed()] == [
        ("cpu1", "Load"),
        ("cpu0", "Store"),
    ]
    assert sentence(finding, trace) == (
        f"assertion: after step 1 'x is 1, not 0' does not hold, which cpu1 asserts (test_claims.py:{line})"
    )


def test_an_assertion_of_a_device_is_a_finding() -> None:
    done = explored(of(device_asserts, ASSERTION))
    assert list(done.causes) == [signature("the page has content", BDF)]
    (cause,) = done.causes.values()
    assert 0 < cause.executions < done.done


def test_an_assertion_that_holds_is_none() -> None:
    def holds(m: Machine) -> None:
        stores(m, 0, X)

        @m.cpu(1)
        async def loader(cpu: Cpu) -> None:
            assert await cpu.load64(X) in {0, 1}

    assert explored(of(holds)).verdict is Verdict.PROVED


def test_a_deadlock_for_which_a_failed_assertion_may_be_the_reason_is_not_reported() -> None:
    done = explored(of(waits_for_one_that_asserts, ASSERTION))
    assert list(done.causes) == [signature("x is set", "cpu0")]


@pytest.mark.parametrize("host", ["direct", "trio"])
@pytest.mark.parametrize("strategy", ["random", "round-robin"])
def test_an_assertion_before_the_first_step_is_found_on_both_hosts(host: str, strategy: str) -> None:
    def at_once(m: Machine) -> None:
        stores(m, 0, X)

        @m.cpu(1)
        async def asserts(cpu: Cpu) -> None:
            assert not m.agents, "nobody is there"
            await cpu.load64(X)

    (finding,) = shown(run(at_once, ASSERTION, host=host, strategy=strategy))
    assert (finding.agent, finding.step) == ("cpu1", 0)


def test_a_failed_assertion_lets_go_of_the_lock_that_its_agent_holds() -> None:
    def locked(m: Machine) -> None:
        domain = m.domain(1)

        def holding(*, asserts: bool) -> Callable[[Cpu], Any]:
            async def hold(cpu: Cpu) -> None:
                async with domain.p2m_lock.held(cpu):
                    await cpu.load64(X)
                    assert not asserts, "free"

            return hold

        m.cpu(0).runs(holding(asserts=True))
        m.cpu(1).runs(holding(asserts=False))

    assert list(explored(of(locked, ASSERTION)).causes) == [signature("free", "cpu0")]


def test_what_an_agent_asserts_when_its_execution_has_ended_does_not_count() -> None:
    def stuck(m: Machine) -> None:
        signal = m.signal("go")
        stores(m, 0, X)

        @m.cpu(1)
        async def waiter(cpu: Cpu) -> None:
            try:
                await signal.wait()
            finally:
                assert m.memory.peek(X) == 7, "seven"

    assert [one.kind for one in explored(of(stuck, DEADLOCK)).causes] == [FindingKind.DEADLOCK]


def test_what_an_assertion_keeps_from_being_awaited_is_no_mistake() -> None:
    def drops(m: Machine) -> None:
        stores(m, 0, X)

        @m.cpu(1)
        async def asserts(cpu: Cpu) -> None:
            later = cpu.process_pending_softirqs()
            assert await cpu.load64(X) == 7, "seven"
            await later

    assert explored(of(drops, ASSERTION)).verdict is Verdict.SHOWN


def test_an_assertion_of_a_library_is_no_claim_but_a_mistake() -> None:
    def of_library(m: Machine) -> None:
        stores(m, 0, X)

        @m.cpu(1)
        async def asserts(cpu: Cpu) -> None:
            await cpu.load64(X)
            unittest.TestCase().assertEqual(1, 2)  # noqa: PT009 - the library whose assertion it is

    assert "cpu1, at tests/checks/test_claims.py" in str(run(of_library).failure)
    assert "raised AssertionError: 1 != 2" in str(run(of_library).failure)


def test_an_assertion_of_emu_is_no_claim_but_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def check_variable(variable):\n    assert False, 'ours'\n"
    ours: dict[str, Any] = {}
    exec(compile(source, str(PACKAGE / "cpus" / "cpu.py"), "exec"), ours)  # noqa: S102 - stands for emu's own code
    monkeypatch.setattr("emu.cpus.cpu.check_variable", ours["check_variable"])

    def of_emu(m: Machine) -> None:
        stores(m, 0, X)

        @m.cpu(1)
        async def asserts(cpu: Cpu) -> None:
            await cpu.read(FLAG)

    assert "raised AssertionError: ours" in str(run(of_emu).failure)


def test_an_assertion_without_a_message_is_known_by_its_condition(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from emu import Cpu, Machine, ASSERTION, scenario\n\n\n@scenario(expect=ASSERTION, sequential=True)\n"
        "def mine(m: Machine) -> None:\n    @m.cpu(0)\n    async def one(cpu: Cpu) -> None:\n"
        "        loaded = await cpu.load64(0)\n        assert (\n            loaded\n            == 1\n        )\n"
    )
    done = Run(load(path).bind({}), "random", 0, 1)
    done.on("direct")
    assert [finding.claim for finding in shown(done)] == ["loaded == 1"]


def two_stores(m: Machine) -> None:
    at_most(m, X, Y)
    stores(m, 0, X, Z)
    stores(m, 1, Y, Z + 8)


def test_stores_to_what_a_claim_reads_are_explored_in_every_order() -> None:
    done = explored(of(two_stores, ASSERTION))
    assert list(done.causes) == [signature("x is at most y", "cpu0")]
    (cause,) = done.causes.values()
    assert (cause.executions, done.done, done.verdict) == (1, 2, Verdict.SHOWN)
    every = explored(of(two_stores, ASSERTION), strategy="depth-first")
    assert set(every.causes) == set(done.causes)


def test_without_a_claim_the_same_stores_have_one_order() -> None:
    def unclaimed(m: Machine) -> None:
        stores(m, 0, X, Z)
        stores(m, 1, Y, Z + 8)

    assert explored(of(unclaimed)).done == 1


def test_a_claim_that_holds_in_every_order_is_proved() -> None:
    def ordered(m: Machine) -> None:
        at_most(m, X, Y)
        stores(m, 0, Y, X)
        stores(m, 1, Y, Z)

    done = explored(of(ordered))
    assert (done.verdict, done.done) == (Verdict.PROVED, 3)


def test_random_executions_count_the_orders_of_what_a_claim_reads_as_traces() -> None:
    done = explored(of(two_stores, ASSERTION), strategy="random", executions=50)
    assert done.coverage.traces == 2


def undeclared(m: Machine) -> None:
    m.always("x is at most y", lambda: m.memory.peek(X) <= m.memory.peek(Y))
    stores(m, 0, Y)
    stores(m, 1, X)


def test_a_claim_that_declares_nothing_is_found_broken_by_runs_and_by_every_interleaving() -> None:
    (finding,) = shown(run(undeclared, ASSERTION, executions=100))
    assert (finding.claim, finding.agent, finding.step) == ("x is at most y", "cpu1", 1)
    every = explored(of(undeclared, ASSERTION), strategy="depth-first")
    assert (every.verdict, every.not_proved) == (Verdict.SHOWN, [])


@pytest.mark.parametrize("expected", [CLEAN, ASSERTION])
def test_a_claim_that_declares_nothing_is_not_proved_by_one_interleaving_of_each_trace(expected: Expectation) -> None:
    done = explored(of(undeclared, expected))
    assert (done.done, done.is_exhausted, done.causes) == (1, True, {})
    assert (done.verdict, done.not_proved) == (Verdict.UNDECIDED, ["x is at most y"])


def test_what_else_is_declared_is_contradicted_all_the_same_where_nothing_shows_it() -> None:
    assert explored(of(undeclared, DEADLOCK)).verdict is Verdict.CONTRADICTED


def test_a_claim_that_declares_nothing_is_proved_by_every_interleaving() -> None:
    def holds(m: Machine) -> None:
        m.always("x is small", lambda: m.memory.peek(X) < 2)
        stores(m, 0, X)
        stores(m, 1, Y)

    assert explored(of(holds), strategy="depth-first").verdict is Verdict.PROVED
    assert explored(of(holds)).verdict is Verdict.UNDECIDED


def last_wins(m: Machine) -> None:
    m.finally_("cpu 1 wins", lambda: m.memory.peek(X) == 2)
    stores(m, 0, X, Y)
    stores(m, 1, X, value=2)


def test_a_claim_of_the_end_is_broken_in_the_traces_that_end_otherwise() -> None:
    done = explored(of(last_wins, ASSERTION))
    assert list(done.causes) == [signature("cpu 1 wins", None)]
    (cause,) = done.causes.values()
    assert (cause.executions, done.done, done.verdict) == (1, 2, Verdict.SHOWN)
    assert set(explored(of(last_wins, ASSERTION), strategy="depth-first").causes) == set(done.causes)


def test_a_claim_of_the_end_that_holds_is_proved_without_a_declaration() -> None:
    def both(m: Machine) -> None:
        m.finally_("both stored", lambda: m.memory.peek(X) == m.memory.peek(Y) == 1)
        stores(m, 0, X)
        stores(m, 1, Y)

    assert explored(of(both)).verdict is Verdict.PROVED


def test_a_claim_that_does_not_hold_before_the_first_step_says_so() -> None:
    def unset(m: Machine) -> None:
        m.always("x is set", lambda: m.memory.peek(X), reads=[X])
        stores(m, 0, X)
        stores(m, 1, Y)

    done = explored(of(unset, ASSERTION))
    (cause,) = done.causes.values()
    assert (cause.signature, cause.executions) == (signature("x is set", None), done.done)
    assert isinstance(cause.finding, Asserted)
    assert cause.run is not None
    assert cause.run.reported is not None
    said = sentence(cause.finding, cause.run.reported.machine.trace)
    assert said == "assertion: before the first step 'x is set' does not hold, and has to hold always"


def test_a_claim_is_broken_by_a_store_inside_a_section_that_could_be_taken_in_one_step() -> None:
    def mapped(m: Machine) -> None:
        domain = m.domain(1, devices=(BDF,))
        new = m.allocate()
        m.premap(domain, G, m.allocate())
        leaf = 0x101003000 + 8 * G
        old = m.memory.peek(leaf)
        assert old
        m.always("the entry stays", lambda: m.memory.peek(leaf) == old, reads=[leaf])

        @m.cpu(0)
        async def unmapper(cpu: Cpu) -> None:
            await m.hypervisor.unmap(cpu, domain, G)

        @m.cpu(1)
        async def other(cpu: Cpu) -> None:
            await m.hypervisor.map(cpu, domain, Dfn(G + 1), new)

    done = explored(of(mapped, ASSERTION), executions=3000)
    assert [one for one in done.causes if one.kind is FindingKind.ASSERTION] == [signature("the entry stays", "cpu0")]
    assert done.coverage.short_locks == []


FLAG = PerCpu("flag", initial=False)


def test_each_sort_of_object_can_be_declared() -> None:
    def everything(m: Machine) -> None:
        bits, variable = Bitmap("bits"), Variable("variable", 0)
        role = m.cpu(0)
        m.always("no bit", lambda: bits.value == 0, reads=[bits])
        m.always("no value", lambda: variable.value == 0, reads=[variable])
        m.always("no flag", lambda: not m.cpus[0].peek(FLAG), reads=[(FLAG, 0)])
        m.always("no flag there", lambda: not m.cpus[0].peek(FLAG), reads=[(FLAG, m.cpus[0])])
        m.always("no word", lambda: m.memory.peek(X) == 0, reads=[X + 4])
        m.always("no range", lambda: m.memory.peek(Y) == 0, reads=[Access(("memory",), 0, Y, Kind.WRITE)])

        async def changes(cpu: Cpu) -> None:
            await bits.set(3)
            await variable.write(1)
            await cpu.write(FLAG, value=True)
            await cpu.store64(X, 1)
            await cpu.store64(Y, 1)

        role.runs(changes)
        stores(m, 1, Z)

    steps = {finding.claim: finding.step for finding in shown(run(everything, strategy="round-robin"))}
    assert [*steps] == ["no bit", "no value", "no flag", "no flag there", "no word", "no range"]
    assert explored(of(everything, ASSERTION)).verdict is Verdict.SHOWN


def claimed(*arguments: Any, **options: Any) -> Body:
    def body(m: Machine) -> None:
        m.always(*arguments, **options)
        stores(m, 0, X)
        stores(m, 1, X)

    return body


async def awaits() -> bool:
    return True


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (claimed("", bool), "a claim says nothing"),
        (claimed("text", None), "has None for a predicate: write lambda"),
        (claimed("text", awaits), r"'text', at test_claims.py:\d+, has to be awaited"),
        (claimed("text", lambda one: one), "is called without arguments: missing a required argument: 'one'"),
        (claimed("text", bool, reads=X), "which is no list: write reads="),
        (claimed("text", bool, reads=["x"]), "cannot read 'x': name the address of a word"),
        (claimed("text", bool, reads=[FLAG]), r"cannot read PerCpu\(name='flag'.*a pair of a PerCpu"),
        (claimed("text", bool, reads=[True]), "cannot read True"),
        (claimed("text", bool, reads=[-8]), "align it and keep it below"),
    ],
)
def test_a_claim_that_cannot_be_made_is_refused(body: Body, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        of(body).build()


def test_a_second_claim_of_one_text_is_refused() -> None:
    def twice(m: Machine) -> None:
        m.always("text", lambda: True)
        m.finally_("text", lambda: True)

    with pytest.raises(ScenarioError, match="there is a claim 'text' already: give each a text of its own"):
        of(twice).build()


@pytest.mark.parametrize("name", ["always", "finally_"])
def test_a_claim_is_made_before_the_first_step(name: str) -> None:
    def late(m: Machine) -> None:
        stores(m, 1, X)

        @m.cpu(0)
        async def claims(cpu: Cpu) -> None:
            await cpu.load64(X)
            getattr(m, name)("text", lambda: True)

    assert f"m.{name} is for before the first step" in str(run(late).failure)


def returns_coroutine() -> object:
    return awaits()


def raises() -> bool:
    raise KeyError("x")


@pytest.mark.parametrize(
    ("predicate", "said"),
    [
        (raises, r"the claim 'text', at test_claims.py:\d+, raised KeyError: 'x'; let it return"),
        (returns_coroutine, r"the claim 'text', at test_claims.py:\d+, has to be awaited"),
        (lambda: Variable("v", 0).read(), r"the claim 'text', at test_claims.py:\d+, has to be awaited"),
    ],
)
@pytest.mark.parametrize("when", ["always", "finally_"])
def test_a_mistake_in_a_predicate_is_named(predicate: Callable[[], object], said: str, when: str) -> None:
    def mistaken(m: Machine) -> None:
        getattr(m, when)("text", predicate)
        stores(m, 0, X)
        stores(m, 1, X)

    done = run(mistaken)
    assert isinstance(done.failure, ModelError)
    with pytest.raises(ModelError, match=said):
        raise done.failure


def test_a_predicate_that_never_returns_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless() -> bool:
        while True:
            pass

    def mistaken(m: Machine) -> None:
        m.always("text", endless, reads=[X])
        stores(m, 0, X)
        stores(m, 1, X)

    monkeypatch.setattr("emu.engine.watchdog.SECONDS", 0.05)
    assert "the claim 'text', at test_claims.py" in (said := str(run(mistaken).failure))
    assert said.endswith("runs on and on: let it return")


def test_a_finding_is_what_json_can_hold() -> None:
    done = run(two_stores, ASSERTION, executions=100)
    assert done.reported is not None
    (finding,) = done.reported.findings
    shown = json.loads(json.dumps(data(finding, done.reported.machine.trace)))
    assert {key: shown[key] for key in shown if key not in {"message", "source"}} == {
        "kind": "assertion",
        "claim": "x is at most y",
        "when": "always",
        "agent": "cpu0",
        "step": 1,
    }
    assert shown["source"] in shown["message"]


def test_what_was_broken_before_a_limit_counts() -> None:
    def endless(m: Machine) -> None:
        at_most(m, X, Y)
        stores(m, 0, X)

        @m.cpu(1)
        async def loops(cpu: Cpu) -> None:
            while True:
                await cpu.load64(Z)

    done = Run(of(endless, ASSERTION, "steps=50"), "round-robin", 0, 1)
    done.on("direct")
    assert (done.has_reached_limit, done.verdict) == (True, Verdict.SHOWN)


def test_free_running_executions_find_broken_claims_too() -> None:
    assert shown(run(cpu_asserts, ASSERTION, strategy="free", executions=100, host="trio"))
    assert shown(run(two_stores, ASSERTION, strategy="free", executions=100, host="trio"))
    assert shown(run(last_wins, ASSERTION, strategy="free", executions=100, host="trio"))
