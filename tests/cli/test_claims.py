"""A user's own claims on the command line: exit statuses, reports, replays."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Outcome

Emu = Callable[..., Outcome]

SCENARIO = """
from emu import ASSERTION, CLEAN, Cpu, Machine, scenario

X, Y = 0x1000, 0x2000


@scenario(expect=lambda *, declared, **_: ASSERTION if declared else CLEAN)
def mine(m: Machine, *, declared: bool = False) -> None:
    def stores(number: int, word: int) -> None:
        @m.cpu(number)
        async def store(cpu: Cpu) -> None:
            await cpu.store64(word, 1)
            {asserted}

    {claimed}
    stores(0, X)
    stores(1, Y)
"""

WORDS = "lambda: m.memory.peek(X) <= m.memory.peek(Y)"


def written(*, claimed: str = "", asserted: str = "") -> str:
    Path("mine.py").write_text(SCENARIO.format(claimed=claimed, asserted=asserted))
    return "mine.py"


def asserted() -> str:
    return written(asserted='assert await cpu.load64(Y), "y is set"')


def always() -> str:
    return written(claimed=f'm.always("x is at most y", {WORDS}, reads=[X, Y])')


def undeclared() -> str:
    return written(claimed=f'm.always("x is at most y", {WORDS})')


def finally_() -> str:
    return written(claimed='m.finally_("x is at most y", lambda: m.memory.peek(X) < m.memory.peek(Y))')


@pytest.mark.parametrize("write", [asserted, always, finally_])
@pytest.mark.parametrize("verb", [("explore",), ("run", "--executions", "100")], ids=["explore", "run"])
def test_a_broken_claim_is_shown_if_the_scenario_declares_it_and_else_contradicts(
    emu: Emu, write: Callable[[], str], verb: tuple[str, ...]
) -> None:
    path = write()
    shown = emu(*verb, path, "-p", "declared=true")
    assert (shown.status, shown.err) == (0, "")
    assert "mine declares assertion: shown" in shown.out
    contradicted = emu(*verb, path)
    assert (contradicted.status, contradicted.err) == (1, "")
    assert "mine declares clean: contradicted" in contradicted.out
    assert "assertion: " in contradicted.out


@pytest.mark.parametrize("write", [asserted, always, undeclared, finally_])
def test_the_schedule_of_a_broken_claim_shows_it_again(emu: Emu, write: Callable[[], str]) -> None:
    first = emu("run", write(), "--executions", "100", "-p", "declared=true")
    (schedule,) = Path("emu-findings").iterdir()
    again = emu("replay", str(schedule), "mine.py")
    assert (again.status, again.err) == (0, "")
    (said,) = [part for part in first.out.split("\n\n") if part.startswith("assertion: ")]
    assert said in again.out


def test_a_claim_that_declares_no_object_is_not_proved(emu: Emu) -> None:
    path = written(claimed='m.always("x is small", lambda: m.memory.peek(X) < 2)')
    done = emu("explore", path)
    assert done.status == 3
    assert "not proved: 'x is small' declares nothing that it reads\n" in done.out
    assert "mine declares clean: no verdict" in done.out
    assert json.loads(emu("explore", path, "--json").out)["not_proved"] == ["x is small"]
    assert emu("explore", path, "--strategy", "depth-first").status == 0
    path = written(claimed='m.always("x is small", lambda: m.memory.peek(X) < 2, reads=[X])')
    proved = emu("explore", path)
    assert (proved.status, "not proved" in proved.out) == (0, False)


def test_a_broken_claim_in_json_and_in_the_log(emu: Emu) -> None:
    (finding,) = json.loads(emu("explore", always(), "--json").out)["findings"]
    assert {key: finding[key] for key in ("kind", "claim", "when", "agent", "owed_by", "step", "executions")} == {
        "kind": "assertion",
        "claim": "x is at most y",
        "when": "always",
        "agent": "cpu0",
        "owed_by": "cpu0",
        "step": 1,
        "executions": 1,
    }
    emu("run", "mine.py", "--executions", "100", "--log", "mine.log")
    records = [json.loads(line) for line in Path("mine.log").read_text().splitlines()]
    (found,) = [record for record in records if record["event"] == "finding"]
    assert (found["level"], found["claim"], found["agent"], found["step"]) == ("warning", "x is at most y", "cpu0", 1)


def test_both_claims_that_one_step_breaks_are_told(emu: Emu) -> None:
    path = written(
        claimed='m.always("one", lambda: not m.memory.peek(X)); m.always("two", lambda: not m.memory.peek(X))'
    )
    done = emu("run", path)
    assert "'one' does not hold" in done.out.replace("\n", " ")
    assert "'two' does not hold" in done.out.replace("\n", " ")


@pytest.mark.parametrize("verb", ["run", "explore"])
@pytest.mark.parametrize(
    ("predicate", "said"),
    [("lambda: [][1]", "raised IndexError: list index out of range"), ("lambda: m.cpus[0].load64(X)", "to be awaited")],
)
def test_a_mistake_in_a_predicate_is_a_mistake_of_usage(emu: Emu, verb: str, predicate: str, said: str) -> None:
    done = emu(verb, written(claimed=f'm.always("mistaken", {predicate}, reads=[X])'))
    assert done.status == 2
    assert done.err.startswith("emu: the claim 'mistaken', at mine.py:15,")
    assert said in done.err
