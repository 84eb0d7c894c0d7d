"""Any exception of a user's code, raised anywhere: one sentence with its line, and exit status 2."""

from collections.abc import Callable
from pathlib import Path

import pytest

from emu.engine import watchdog

Emu = Callable[..., tuple[int, str, str]]

RAISES = {
    "SystemExit": "raise SystemExit(0)",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "GeneratorExit": "raise GeneratorExit",
    "Own": "raise Own('mine')",
    "NoText": "raise NoText",
    "Leaves": "raise Leaves",
}
"""Statements that raise an exception which is easily missed, by the name of the exception."""

PLACES = ("import", "build", "body", "expect", "always", "finally")

INDENTS = {"import": 0, "body": 8}
"""How far the statement at a place is indented, if not by 4."""


def scenario(place: str, statement: str) -> str:
    """Write a scenario whose code runs a statement at a place; return its file."""
    here = {one: statement if one == place else "pass" for one in PLACES}
    Path("mine.py").write_text(
        f"""
from emu import CLEAN, Cpu, Machine, scenario
class Own(BaseException): pass
class NoText(Exception):
    def __str__(self): raise ValueError
class Leaves(Exception):
    def __str__(self): raise SystemExit(0)
{here["import"]}
def expect(**_):
    {here["expect"]}
    return CLEAN
def always():
    {here["always"]}
    return True
def finally_():
    {here["finally"]}
    return True
@scenario(expect=expect)
def mine(m: Machine) -> None:
    '''A story.'''
    {here["build"]}
    m.always("a", always)
    m.finally_("f", finally_)
    async def load(cpu: Cpu) -> None:
        {here["body"]}
        await cpu.load64(0)
    m.cpu(0).runs(load)
    m.cpu(1).runs(load)
"""
    )
    return "mine.py"


@pytest.mark.parametrize("name", RAISES)
@pytest.mark.parametrize("place", PLACES)
def test_any_exception_of_a_scenarios_code_is_one_sentence_with_its_line(emu: Emu, place: str, name: str) -> None:
    path = scenario(place, RAISES[name])
    line = Path(path).read_text().splitlines().index(" " * INDENTS.get(place, 4) + RAISES[name])
    for command in (["run", path], ["explore", path]):
        status, out, err = emu(*command)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert f"at mine.py:{line + 1}, raised {name}" in err


@pytest.mark.parametrize("name", RAISES)
@pytest.mark.parametrize("file", ["iommu.py", "vtd.py"])
def test_any_exception_of_a_revision_at_import_is_one_sentence_with_its_line(emu: Emu, file: str, name: str) -> None:
    assert emu("new", "revision", "mine")[0] == 0
    classes = "class Own(BaseException): pass\nclass NoText(Exception):\n    def __str__(self): raise ValueError\n"
    classes += "class Leaves(Exception):\n    def __str__(self): raise SystemExit(0)\n"
    (Path("mine") / file).write_text(f"{classes}{RAISES[name]}\n")
    status, out, err = emu("run", "remap_before_flush", "-p", "revision=./mine")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"at mine/{file}:6, raised {name}" in err


@pytest.mark.parametrize("place", ["import", "build"])
def test_code_that_runs_on_and_on_before_the_first_step_is_ended_with_its_line(
    emu: Emu, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(watchdog, "SECONDS", 0.01)
    status, _, err = emu("run", scenario(place, "while True: pass"))
    assert (status, err.count("\n")) == (2, 1)
    assert "at mine.py:" in err
    assert "runs on and on: let it end" in err


def test_an_assertion_whose_message_raises_is_a_finding_that_says_so(emu: Emu) -> None:
    status, out, _ = emu("run", scenario("body", "assert False, Leaves()"))
    assert status == 1
    assert "(its text cannot be had: that raises SystemExit)" in " ".join(out.split())


@pytest.mark.parametrize(
    ("place", "statement", "meant"),
    [
        ("build", "m.premapp", "premap"),
        ("build", "m.hypervisor.unmapp", "unmap"),
        ("body", "cpu.laod64", "load64"),
    ],
)
def test_a_mistyped_attribute_is_answered_with_the_attribute_that_is_meant(
    emu: Emu, place: str, statement: str, meant: str
) -> None:
    status, _, err = emu("run", scenario(place, statement))
    assert status == 2
    assert f"(did you mean {meant!r}?)" in err
