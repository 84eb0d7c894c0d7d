"""`emu replay --step`, `--break` and `--pdb`: commands from a pipe, and what they show."""

import io
import re
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from emu.cli.ending import interrupts_noted
from emu.cli.prompt import COMMANDS, Prompt

Emu = Callable[..., tuple[int, str, str]]
Typed = Callable[..., tuple[int, str, str]]

DEADLOCK = """
from emu import DEADLOCK, scenario

@scenario(expect=DEADLOCK)
def mine(m):
    '''Wait for what never comes.'''
    never = m.signal('never')
    @m.cpu(0)
    async def waits(cpu):
        found = await cpu.load64(0)
        await never.wait()
    @m.cpu(1)
    async def reads(cpu):
        await cpu.load64(0)
"""

MISTAKE = DEADLOCK.replace("await never.wait()", "raise ValueError")


@pytest.fixture
def typed(emu: Emu, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Replay a run of remap_before_flush, or another schedule, with lines on stdin."""

    def run(lines: str, *options: str, of: tuple[str, ...] = ()) -> tuple[int, str, str]:
        words = of or schedule_of(emu("run", "remap_before_flush", "-p", "dma=8", "--seed", "23", "--no-shrink")[1])
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines.replace("; ", "\n")))
        return emu(*words, *options)

    return run


def schedule_of(out: str) -> tuple[str, ...]:
    """Return the words of the command that a run or an exploration prints to replay a schedule."""
    return tuple(shlex.split(next(line for line in out.splitlines() if line.startswith("replay: ")))[2:])


def mine(emu: Emu, source: str) -> tuple[str, ...]:
    """Write a scenario, explore it, and return the command that replays its schedule."""
    Path("mine.py").write_text(source)
    emu("explore", "mine.py")
    (schedule,) = Path("emu-findings").iterdir()
    return ("replay", str(schedule), "mine.py")


def logged(out: str) -> list[str]:
    """Return the lines of a log that belong to steps."""
    return [line for line in out.splitlines() if re.match(r"[1-9]\d* {2}", line)]


def test_each_step_is_shown_as_the_log_shows_it(typed: Typed, emu: Emu) -> None:
    log = logged(emu("run", "remap_before_flush", "-p", "dma=8", "--seed", "23", "--no-shrink", "--show-log")[1])
    status, out, err = typed("next 70", "--step")
    assert (status, err) == (0, "")
    assert len(log) > 70
    assert logged(out) == log


def test_all_but_the_log_fits_80_columns(typed: Typed) -> None:
    _, out, _ = typed("c; b 30; agents; tables 1 0x1000; iotlb; promises; finding", "--step", "--break", "iotlb.fill")
    assert max(len(line) for line in out.splitlines() if line not in logged(out)) <= 80


def test_the_prompt_names_the_step_and_the_agents_what_they_do_next(typed: Typed) -> None:
    _, out, _ = typed("n; n 3; ; b; to 7; agents", "--step")
    prompts = [line for line in out.splitlines() if line.startswith("step ")]
    assert prompts == [
        "step 0> n",
        "step 1> n 3",
        "step 4> ",
        "step 7> b",
        "step 6> to 7",
        "step 7> agents",
        "step 7> ",
    ]
    assert out.count("> cpu0    step 8 pte.read: read word 0x101000000") == 3
    assert "d1.mapping_lock is held by cpu0 since step 4; waiting: cpu1" in out


def test_a_break_stops_where_its_event_is_and_continue_goes_on_to_the_next(typed: Typed) -> None:
    _, out, _ = typed(
        "break iotlb.fill dfn=0x1000; c; delete 1; break dma.read agent=00:1f.0 step=67:; c; d; c", "--step"
    )
    assert "break 1 after step 64: iotlb.fill dfn=0x1000\n" in out
    assert "break 1 after step 70: dma.read agent=00:1f.0 step=67:\n" in out
    assert "the execution has ended after 70 steps" in out


def test_without_a_prompt_a_break_shows_the_state_and_ends_with_the_status_of_the_replay(typed: Typed) -> None:
    status, out, _ = typed("next", "--break", "pte.clear", "--expect", "clean")
    assert status == 1
    assert out.startswith("break 1 after step 12: pte.clear\n")
    assert "\n12   cpu0     pte.clear" in out
    assert "step 12>" not in out


def test_the_prompt_of_a_replay_that_has_gone_to_a_break_names_that_step(typed: Typed) -> None:
    assert typed("", "--step", "--break", "pte.clear")[1].endswith("help lists the commands\nstep 12> \n")


def test_a_break_may_be_where_the_replay_begins(typed: Typed) -> None:
    assert typed("", "--break", "call.enter dfn=0x1000")[1].startswith("break 1 after step 0: call.enter dfn=0x1000\n")


def test_a_break_that_is_not_reached_shows_the_end(typed: Typed) -> None:
    assert "the execution has ended after 70 steps\n" in typed("", "--break", "domain.crash")[1]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nxt", "no command is named 'nxt' (did you mean 'next'?): help lists the commands"),
        ("next 0", "the number of steps begins at 1, and is not 0"),
        ("next x", "the number of steps takes numbers such as 12 or 0x1000, not 'x'"),
        ("to 71", "to takes the number of a step, from 0 to 70, not '71'"),
        ("to", "to takes the number of a step, from 0 to 70, not ''"),
        ("tables 1", "tables takes the number of a domain and a dfn: tables 1 0x1000"),
        ("iotlb vtd7", "no unit is named 'vtd7' (did you mean 'vtd0'?): name one of vtd0"),
        ("break dma dfm=1", "no key of an event is named 'dfm' (did you mean 'dfn'?)"),
        ("delete 3", "there is no break 3: br shows the breaks"),
        ("pdb cpu7", "no agent is named 'cpu7' (did you mean 'cpu1'?): name one of vtd0, cpu0, cpu1, 00:1f.0"),
        ("owed", "no call has left its flush to a later one"),
        ("promises", "no call has promised anything yet"),
        ("finding", "no check has reported anything up to step 0"),
    ],
)
def test_a_line_that_asks_for_nothing_is_answered_in_a_sentence(typed: Typed, line: str, said: str) -> None:
    assert f"step 0> {line} {said} step 0>" in " ".join(typed(line, "--step")[1].split())


def test_a_mistyped_break_is_refused_before_anything_is_shown(typed: Typed) -> None:
    assert typed("", "--break", "iotlb.fil") == (
        2,
        "",
        "emu: no event is named 'iotlb.fil' (did you mean 'iotlb.fill'?)\n",
    )


def test_debts_and_promises_are_shown_while_they_last(emu: Emu, typed: Typed) -> None:
    words = schedule_of(emu("run", "flag_left_set")[1])
    _, out, _ = typed("br call.return; c; owed; d; c; owed; promises", "--step", of=words)
    assert "owed\niommu_dont_flush_iotlb is set on cpu0\ncpu0 owes the flush of its map of domain 0 dfn 0x1001" in out
    assert "owed\niommu_dont_flush_iotlb is set on cpu0\nstep 38> promises\ndomain 0 dfn 0x1000: since step 38 " in out


def test_pdb_begins_in_the_line_of_the_scenario_whose_step_brings_the_finding(typed: Typed) -> None:
    status, out, _ = typed("where; p domain.number; down; p record.call; q", "--pdb")
    assert status == 0
    assert "after step 35 a check reports: stale translation (observed)" in out
    assert "(56)mapper()\n-> await m.hypervisor.map(cpu, domain, G, new, page_order=order)\n(Pdb) where\n" in out
    assert "(Pdb) p domain.number\n1\n" in out
    assert "(Pdb) p record.call\n'map'\n" in out
    assert out.endswith("(Pdb) q\n")


def test_pdb_of_a_deadlock_looks_at_an_agent_that_waits_and_leads_to_the_prompt(emu: Emu, typed: Typed) -> None:
    status, out, _ = typed("p found; q; n; b; pdb cpu1", "--pdb", "--step", of=mine(emu, DEADLOCK))
    assert status == 0
    assert "(Pdb) p found\n0\n(Pdb) q\nhelp lists the commands\nstep 2> n\nat the end a check reports: deadlock" in out
    assert "-> await cpu.load64(0)\n(Pdb) \n" in out


def test_pdb_looks_at_the_agent_that_makes_a_mistake(emu: Emu, typed: Typed) -> None:
    status, out, err = typed("p cpu.number; q; n; b", "--pdb", "--step", of=mine(emu, MISTAKE))
    assert status == 2
    assert err.startswith("emu: cpu0, at mine.py:11, raised ValueError")
    assert "(Pdb) p cpu.number\n0\n" in out
    assert out.count("after step 2 a mistake ends the execution: cpu0, at mine.py:11") == 2
    assert "step 1> n\n2    cpu0     memory.load " in out


def test_an_agent_that_has_ended_has_no_frame(typed: Typed) -> None:
    assert "cpu1 has ended, and has no frame: go back to where it has one\n" in typed("to 40; pd cpu1", "--step")[1]


def test_without_a_finding_pdb_says_where_the_replay_ends(emu: Emu, typed: Typed) -> None:
    words = mine(emu, MISTAKE)
    Path("mine.py").write_text(MISTAKE.replace("raise ValueError", "pass"))
    status, out, _ = typed("p cpu", "--pdb", of=words)
    assert (status, out) == (0, "the execution has ended after 2 steps\n")


def test_a_report_and_stepping_exclude_each_other(typed: Typed) -> None:
    status, out, err = typed("", "--step", "--json")
    assert (status, out) == (2, "")
    assert err.endswith("leave one out\n")


def test_ctrl_c_stops_a_replay_between_two_steps_and_leads_to_the_prompt(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    show_new = Prompt.show_new

    def press(prompt: Prompt) -> None:
        if prompt.stepping.step == 20:
            signal.raise_signal(signal.SIGINT)
        show_new(prompt)

    monkeypatch.setattr(Prompt, "show_new", press)
    _, out, _ = typed("c", "--step")
    assert out.endswith("step 20> \n")


def test_ctrl_c_is_heard_as_before_once_the_replay_stands() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts_noted() as is_interrupted:
        assert not is_interrupted()
        signal.raise_signal(signal.SIGINT)
        assert is_interrupted()
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_at_the_prompt_ends_emu(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Prompt, "do_agents", lambda *_: signal.raise_signal(signal.SIGINT))
    status, _, err = typed("agents; n", "--step")
    assert (status, err) == (130, "\nemu: stopped\n")


def test_help_lists_each_command_and_fits_80_columns(typed: Typed) -> None:
    _, out, _ = typed("help", "--step")
    for usage, _ in COMMANDS.values():
        assert f"\n{usage} " in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_shortened_word_is_the_command_that_help_says() -> None:
    for name, (usage, _) in COMMANDS.items():
        short = usage.partition("[")[0]
        assert next(one for one in COMMANDS if one.startswith(short)) == name
        assert callable(getattr(Prompt, f"do_{name}"))


def test_the_log_is_written_though_the_replay_is_stepped_through(typed: Typed, emu: Emu) -> None:
    emu("run", "remap_before_flush", "-p", "dma=8", "--seed", "23", "--no-shrink", "--log", "run.log")
    typed("n", "--step", "--log", "step.log")
    assert Path("step.log").read_bytes() == Path("run.log").read_bytes()
