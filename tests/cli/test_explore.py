"""`emu explore`: its coverage, its findings, its verdict, and its exit status."""

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from emu.cli import terminal
from emu.engine import watchdog
from emu.engine.hosts import direct
from emu.engine.hosts import trio as controlled
from emu.errors import ScenarioError
from emu.iommus.requests import Requests

Emu = Callable[..., tuple[int, str, str]]

HEAD = """
import signal
import trio
from emu import CLEAN, DEADLOCK, STALE, STALE_FAULT, Dfn, Domain, Machine, scenario

executions = 0

"""

TWO_OWNERS = '''
@scenario(expect={expected})
def two_owners(m: Machine) -> None:
    """Unmap a page and map it anew."""
    domain = m.domain(1, devices=("00:1f.0",))
    m.premap(domain, Dfn(16), m.allocate(), cached=True)
    new = m.allocate()

    @m.cpu(0)
    async def unmapper(cpu):
        await m.hypervisor.unmap(cpu, domain, Dfn(16))

    @m.cpu(1)
    async def mapper(cpu):
        await m.hypervisor.map(cpu, domain, Dfn(16), new)
'''

STORE_AND_LOAD = '''
@scenario(expect={expected})
def mine(m: Machine) -> None:
    """Store in one CPU, load in another."""
    global executions
    executions += 1
    number = executions
    {at_start}

    @m.cpu(0)
    async def storer(cpu):
        await cpu.store64(0, 1)
        {stored}

    @m.cpu(1)
    async def loader(cpu):
        loaded = await cpu.load64(0)
        {loaded}
'''


def two_owners(expected: str = "STALE") -> str:
    """Write a scenario that shows one stale translation, and return its path."""
    Path("two_owners.py").write_text(HEAD + TWO_OWNERS.format(expected=expected))
    return "two_owners.py"


def store_and_load(*, expected: str = "CLEAN", at_start: str = "", stored: str = "", loaded: str = "") -> str:
    """Write a scenario with two traces and something in addition, and return its path."""
    text = STORE_AND_LOAD.format(expected=expected, at_start=at_start, stored=stored, loaded=loaded)
    Path("mine.py").write_text(HEAD + text)
    return "mine.py"


def words(text: str) -> str:
    """Return a text without its line breaks."""
    return " ".join(text.split())


def commands(out: str, label: str) -> Iterator[list[str]]:
    """Yield the arguments of each command that is printed under a label."""
    for line in out.splitlines():
        if line.startswith(f"{label}: emu "):
            yield shlex.split(line.removeprefix(f"{label}: emu "))


def without_commands(out: str) -> list[str]:
    """Return the lines that hold no command; only these may be too long for a terminal."""
    return [line for line in out.splitlines() if not line.startswith(("replay: ", "again: "))]


def findings(out: str) -> list[str]:
    """Return each finding in words, as `emu explore` and `emu replay` tell it."""
    paragraphs = [words(paragraph) for paragraph in out.split("\n\n")]
    kinds = ("stale ", "flush owed ", "lost error", "deadlock ")
    return [re.split(r" in \d+ of ", paragraph)[0] for paragraph in paragraphs if paragraph.startswith(kinds)]


def command_line(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    """Run `emu explore` in a process of its own."""
    environment = {**os.environ, "COLUMNS": "80", "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-m", "emu", "explore", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_an_exhausted_exploration_says_how_many_traces_there_are_and_what_they_prove(emu: Emu) -> None:
    status, out, err = emu("explore", "two_wait_for_mapping_lock")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "two_wait_for_mapping_lock: exhausted: all 6 traces executed (306 steps)",
        "",
        "two_wait_for_mapping_lock declares clean: proved for these parameters; judged in",
        "all: 18 returns, no deferred call, access, release or assignment; not modelled:",
        "device-TLBs, peer-to-peer accesses, invalidations wider than asked, first-stage",
        "tables, interrupts",
        "again: emu explore two_wait_for_mapping_lock",
    ]


def test_one_trace_is_the_only_one(emu: Emu) -> None:
    status, out, _ = emu("explore", "map_dma_unmap_dma")
    assert status == 0
    assert out.startswith("map_dma_unmap_dma: exhausted: the only trace executed (")


def test_sections_taken_in_one_step_are_named(emu: Emu) -> None:
    assert "sections of d1.mapping_lock taken in one step" in words(emu("explore", "remap_before_flush")[1])


def test_stepwise_takes_no_section_in_one_step_and_shows_the_same_cause(emu: Emu) -> None:
    short, stepwise = (emu("explore", "unmap_twice_before_flush", *option)[1] for option in ([], ["--stepwise"]))
    assert "sections of" in words(short)
    assert "sections of" not in words(stepwise)
    assert next(commands(stepwise, "again")) == ["explore", "unmap_twice_before_flush", "--stepwise"]
    assert findings(stepwise) == findings(short)


def test_a_finding_is_told_once_with_its_count_its_first_execution_and_a_replay(emu: Emu) -> None:
    status, out, err = emu("explore", "remap_before_flush", "-p", "dma=1")
    assert (status, err) == (0, "")
    text = words(out)
    assert "exhausted: all 193 traces executed" in text
    assert text.count("promise cpu1's map of domain 1 dfn 0x1000 returned success at step") == 1
    assert "in 17 of 193 executions, first in number 9; shown: number 17 replay: emu replay emu-findings/remap" in text
    assert "remap_before_flush declares stale, observed: shown again: emu explore remap_before_flush -p dma=1" in text


def test_every_cause_has_a_paragraph_and_a_schedule_of_its_own(emu: Emu) -> None:
    _, out, _ = emu("explore", "map_same_frame_before_flush")
    first, second = findings(out)
    assert "promise cpu1's map" in first
    assert "promise cpu0's map" in second
    assert len({command[1] for command in commands(out, "replay")}) == len(list(Path("emu-findings").iterdir())) == 2


@pytest.mark.parametrize("name", ["map_same_frame_before_flush", "softirq_in_flagged_loop", "map_fails_halfway"])
def test_the_printed_replay_repeats_the_very_finding(emu: Emu, name: str) -> None:
    _, out, _ = emu("explore", name)
    replays = [emu(*command) for command in commands(out, "replay")]
    assert [(status, err) for status, _, err in replays] == [(0, "")] * len(replays)
    assert [findings(replayed) for _, replayed, _ in replays] == [[one] for one in findings(out)]


def test_a_replay_tells_the_finding_first_for_which_its_schedule_was_saved(emu: Emu) -> None:
    _, out, _ = emu("explore", "timeout_on_one_unit")
    told = findings(out)
    replayed = [findings(emu(*command)[1]) for command in commands(out, "replay")]
    assert len(told) > 1
    assert [first for first, *_ in replayed] == told
    assert any(len(each) > 1 for each in replayed)


def test_a_scenario_of_the_users_own_is_replayed_with_its_file(emu: Emu) -> None:
    _, out, _ = emu("explore", two_owners())
    (command,) = commands(out, "replay")
    assert command[-1] == "two_owners.py"
    status, replayed, err = emu(*command)
    assert (status, err) == (0, "")
    assert findings(replayed) == findings(out)


def test_the_evidence_is_observed_where_a_device_can_use_the_stale_translation(emu: Emu) -> None:
    _, out, _ = emu("explore", "remap_before_flush")
    assert "stale translation (observed, by a read that emu has added)" in out
    assert "use device 00:1f.0 read mfn 0x180002 through vtd0 at step" in words(out)


def test_the_evidence_stays_possible_where_no_device_can_use_the_stale_translation(emu: Emu) -> None:
    status, out, _ = emu("explore", "flag_left_set")
    assert status == 0
    assert "flush owed (possible)" in out


def test_the_printed_command_explores_the_same_again(emu: Emu) -> None:
    _, out, _ = emu(
        "explore", "remap_before_flush", "-p", "dma=2", "-p", "levels=3", "--executions", "60", "--stepwise"
    )
    (command,) = commands(out, "again")
    assert without_commands(emu(*command)[1]) == without_commands(out)


def test_both_hosts_print_the_same(emu: Emu) -> None:
    outs = [emu("explore", "remap_before_flush", "-p", "dma=1", "--host", host)[1] for host in ("direct", "trio")]
    assert without_commands(outs[0]) == without_commands(outs[1])


@pytest.mark.parametrize(("arguments", "host"), [([], direct), (["--host", "trio"], controlled)])
def test_the_option_chooses_the_host(
    emu: Emu, monkeypatch: pytest.MonkeyPatch, arguments: list[str], host: ModuleType
) -> None:
    def refuse(executions: object) -> None:
        raise ScenarioError("asked for")

    monkeypatch.setattr(host, "run_each", refuse)
    assert emu("explore", store_and_load(), *arguments) == (2, "", "emu: asked for\n")


def test_depth_first_counts_interleavings(emu: Emu) -> None:
    path = store_and_load(stored="await cpu.store64(8, 1)", loaded="await cpu.load64(16)")
    assert "exhausted: all 2 traces executed (8 steps)" in emu("explore", path)[1]
    status, out, _ = emu("explore", path, "--strategy", "depth-first")
    assert status == 0
    assert "mine: exhausted: all 6 interleavings executed (24 steps)" in out
    assert next(commands(out, "again")) == ["explore", path, "--strategy", "depth-first"]


def test_random_executions_are_told_with_their_number_of_traces_and_prove_nothing(emu: Emu) -> None:
    status, out, _ = emu("explore", store_and_load(), "--strategy", "random")
    assert status == 3
    assert words(out).startswith("mine: 1000 random executions (2 distinct traces, 2000 steps)")
    assert "; others may differ mine declares" in words(out)
    assert "mine declares clean: no verdict" in out


def test_random_executions_belong_to_no_more_traces_than_there_are(emu: Emu) -> None:
    parameters = ("remap_before_flush", "-p", "synchronous=true")
    assert "all 15 traces" in emu("explore", *parameters, "--stepwise")[1]
    _, out, _ = emu("explore", *parameters, "--strategy", "random", "--executions", "2000", "--json")
    assert json.loads(out)["distinct_traces"] <= 15


def test_the_first_random_execution_has_the_given_seed(emu: Emu) -> None:
    arguments = ("explore", "remap_before_flush", "--strategy", "random")
    _, out, _ = emu(*arguments, "--executions", "5")
    first = int(words(out).split("first in number ")[1].split()[0].rstrip(";"))
    _, again, _ = emu(*arguments, "--seed", str(first - 1), "--executions", "1")
    assert "in 1 of 1 execution, first in number 1" in again
    assert next(commands(again, "again"))[-4:] == ["--seed", str(first - 1), "--executions", "1"]


def test_a_limit_on_executions_is_named_and_ends_without_a_verdict(emu: Emu) -> None:
    status, out, _ = emu("explore", "remap_before_flush", "--executions", "1")
    assert status == 3
    assert "remap_before_flush: not exhausted: ended by --executions 1 after 1 execution" in words(out)
    assert "remap_before_flush declares stale: no verdict" in out


def test_a_limit_as_large_as_the_number_of_traces_exhausts_them(emu: Emu) -> None:
    _, out, _ = emu("explore", "remap_before_flush", "--executions", "16")
    assert "exhausted: all 16 traces" in out


def test_a_limit_after_the_declared_finding_leaves_the_verdict(emu: Emu) -> None:
    status, out, _ = emu("explore", "remap_before_flush", "--executions", "3")
    assert status == 0
    assert "not exhausted: ended by --executions 3 after 3 executions, an estimated 50 %" in words(out)
    assert "in 2 of 3 executions" in out
    assert "remap_before_flush declares stale: shown" in out


def test_a_limit_after_a_contradicting_finding_leaves_that_verdict(emu: Emu) -> None:
    status, out, _ = emu("explore", two_owners("CLEAN"), "--executions", "3")
    assert status == 1
    assert "not exhausted" in out
    assert "two_owners declares clean: contradicted" in out


def test_a_limit_on_seconds_lets_the_present_execution_end(emu: Emu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emu.running.exploration.time", SimpleNamespace(monotonic=itertools.count().__next__))
    status, out, _ = emu("explore", "two_wait_for_mapping_lock", "--time", "2.5")
    assert status == 3
    assert "not exhausted: ended by --time 2.5 after 3 executions" in words(out)


def test_a_limit_on_the_steps_of_an_execution_is_named(emu: Emu) -> None:
    status, out, _ = emu("explore", "remap_before_flush", "-p", "steps=10")
    assert status == 3
    assert "an execution took 10 steps without ending (limit 'steps')" in words(out)
    assert "remap_before_flush declares stale: no verdict" in out


def test_a_limit_that_some_executions_reach_leaves_the_report_of_the_executions_before(emu: Emu) -> None:
    path = store_and_load(loaded="while number > 2 and not loaded: loaded = await cpu.load64(0)")
    status, out, _ = emu("explore", path, "-p", "steps=50")
    assert status == 3
    assert "an execution took 50 steps without ending (limit 'steps')" in words(out)
    assert "after 1 execution" in words(out)


@pytest.mark.parametrize(
    ("arguments", "limit"),
    [(["-p", "steps=50"], "limit 'steps'"), (["--time", "2.5"], "--time 2.5")],
)
def test_random_executions_name_the_limit_that_ended_them(
    emu: Emu, monkeypatch: pytest.MonkeyPatch, arguments: list[str], limit: str
) -> None:
    monkeypatch.setattr("emu.running.exploration.time", SimpleNamespace(monotonic=itertools.count().__next__))
    path = store_and_load(loaded="while loaded and number > 5: loaded = await cpu.load64(0)")
    status, out, _ = emu("explore", path, "--strategy", "random", *arguments)
    assert status == 3
    assert limit in words(out)


def test_ctrl_c_ends_after_the_present_execution_with_the_report(emu: Emu) -> None:
    path = store_and_load(at_start="if number == 3: signal.raise_signal(signal.SIGINT)")
    done = command_line(path, "--strategy", "depth-first")
    assert done.stderr == "emu: stopping after this execution; Ctrl-C again stops at once\n"
    assert done.returncode == 3
    assert "mine: not exhausted: ended by" in done.stdout
    assert "mine declares clean: no verdict" in done.stdout


def test_a_second_ctrl_c_ends_at_once(emu: Emu) -> None:
    path = store_and_load(at_start="for _ in range(2): number == 3 and signal.raise_signal(signal.SIGINT)")
    done = command_line(path)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.endswith("emu: stopped\n")


def test_a_scenario_that_declares_clean_and_shows_a_finding_is_contradicted(emu: Emu) -> None:
    status, out, _ = emu("explore", two_owners("CLEAN"))
    assert status == 1
    assert "stale translation (observed, by a read that emu has added)" in out
    assert "two_owners declares clean: contradicted\n" in out


def test_a_scenario_that_declares_a_finding_which_no_execution_shows_is_contradicted(emu: Emu) -> None:
    status, out, _ = emu("explore", store_and_load(expected="STALE"))
    assert status == 1
    assert "mine declares stale: contradicted: no execution shows it\n" in out


def test_a_scenario_that_declares_another_finding_is_contradicted(emu: Emu) -> None:
    assert emu("explore", two_owners("STALE_FAULT"))[0] == 1


def test_a_deadlock_of_some_traces_is_shown(emu: Emu) -> None:
    path = store_and_load(
        expected="DEADLOCK",
        at_start="never = m.signal('what never comes')",
        loaded="if loaded: await never.wait()",
    )
    status, out, _ = emu("explore", path)
    assert status == 0
    assert "cpu1 waits for the signal 'what never comes'" in words(out)
    assert "in 1 of 2 executions" in out


def test_json_has_the_coverage_the_verdict_and_each_cause(emu: Emu) -> None:
    status, out, _ = emu("explore", "remap_before_flush", "-p", "dma=1", "--json")
    report = json.loads(out)
    (finding,) = report.pop("findings")
    assert report.pop("emu").keys() == {"version", "commit", "is_changed"}
    assert status == 0
    assert report == {
        "format": "emu-exploration-2",
        "scenario": "remap_before_flush",
        "parameters": ["dma=1"],
        "strategy": "optimal",
        "declared": "stale, observed",
        "verdict": "shown",
        "exhausted": True,
        "limit": None,
        "executions": 193,
        "distinct_traces": None,
        "blocked": 0,
        "steps": 13643,
        "share": 1.0,
        "short_sections": ["d1.mapping_lock"],
        "not_proved": [],
        "judged": {
            "returns": 386,
            "deferred": 0,
            "accesses": 66,
            "releases": 0,
            "assignments": 0,
            "accesses_after": 0,
        },
        "reproduce": "emu explore remap_before_flush -p dma=1",
    }
    shown = {key: finding[key] for key in ("executions", "first", "owed_by", "kind", "evidence", "dfn", "mfn")}
    assert shown == {
        "executions": 17,
        "first": 9,
        "owed_by": "cpu0",
        "kind": "stale",
        "evidence": "observed",
        "dfn": 0x1000,
        "mfn": 0x180002,
    }
    assert emu(*shlex.split(finding["replay"])[1:])[0] == 0


def test_json_of_a_limit_names_it_and_of_random_executions_counts_traces(emu: Emu) -> None:
    limited = json.loads(emu("explore", "remap_before_flush", "--executions", "3", "--json")[1])
    assert (limited["exhausted"], limited["limit"], limited["share"]) == (False, "--executions 3", 0.5)
    drawn = json.loads(emu("explore", store_and_load(), "--strategy", "random", "--executions", "50", "--json")[1])
    assert (drawn["executions"], drawn["distinct_traces"], drawn["verdict"]) == (50, 2, "undecided")


@pytest.mark.parametrize("name", ["map_same_frame_before_flush", "unmap_twice_before_flush", "flag_left_set"])
def test_only_a_command_is_wider_than_the_terminal(emu: Emu, name: str) -> None:
    _, out, _ = emu("explore", name)
    assert max(map(len, without_commands(out))) <= 80


def test_colour_is_printed_only_where_it_is_wanted(emu: Emu, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in emu("explore", "remap_before_flush")[1]
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[31m\x1b[1mstale translation" in emu("explore", "remap_before_flush")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in emu("explore", "remap_before_flush")[1]


def test_progress_is_told_in_lines_where_stderr_is_no_terminal(emu: Emu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "SECONDS_BETWEEN_LINES", 0)
    _, out, err = emu("explore", "remap_before_flush", "--executions", "3")
    assert err.splitlines()[1:] == [f"emu: {done} executions, 1 finding" for done in ("2 of about 8", "3 of about 6")]
    assert out.startswith("remap_before_flush: not exhausted")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "there is no scenario 'nowhere'"),
        (["nowhere.py"], "nowhere.py is no file with a scenario"),
        (["remap_before_flash"], "did you mean 'remap_before_flush'"),
        (["remap_before_flush", "-p", "ordr=1"], "did you mean 'order'"),
        (["remap_before_flush", "-p", "dma=101"], "dma takes a whole number from 0 to 100, not '101'"),
        (["remap_before_flush", "-p", "dma"], "-p takes NAME=VALUE, not 'dma'"),
        (["remap_before_flush", "--strategy", "free"], "'free' is not one of 'optimal', 'depth-first', 'random'"),
        (["remap_before_flush", "--host", "moon"], "'moon' is not one of"),
        (["remap_before_flush", "--executions", "0"], "0 is not in the range x>=1"),
        (["remap_before_flush", "--time", "0"], "0.0 is not in the range 0<x<=10000000"),
        (["remap_before_flush", "--seed", "x"], "'x' is not a valid integer"),
        (["remap_before_flush", "--seed", "3"], "--seed is for --strategy random; optimal has none"),
        (["remap_before_flush", "-p", "dma=1", "-p", "dma=2"], "-p dma is given twice: leave one out"),
        (["map_fails_halfway", "-p", "order=0"], "set failing_page below its size"),
        ([], "Missing argument 'SCENARIO'"),
    ],
)
def test_bad_input_is_one_sentence_on_stderr_and_status_2(emu: Emu, arguments: list[str], complaint: str) -> None:
    status, out, err = emu("explore", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("emu: ")
    assert err.count("\n") == 1
    assert complaint in err


def test_a_scenario_in_which_one_cpu_runs_alone_is_refused(emu: Emu) -> None:
    path = store_and_load()
    Path(path).write_text(Path(path).read_text().replace("@m.cpu(1)\n    async", "async"))
    status, out, err = emu("explore", path)
    assert (status, out) == (2, "")
    assert err.startswith("emu: in mine nothing runs concurrently: give a second CPU or a device something to do")


@pytest.mark.parametrize(
    ("mistake", "complaint"),
    [
        ("if not loaded: raise KeyError('x')", "cpu1, at mine.py:25, raised KeyError: 'x'"),
        ("if loaded: raise KeyError('x')", "cpu1, at mine.py:25, raised KeyError: 'x'"),
        ("if not loaded: await trio.sleep(0)", "cpu1, at mine.py:25, awaited something that is not an operation"),
        ("if loaded: await cpu.load64(3)", "align it and keep it below 2^52 (cpu1, at mine.py:25)"),
    ],
)
def test_a_mistake_of_some_interleavings_is_named_with_a_schedule_that_leads_there(
    emu: Emu, mistake: str, complaint: str
) -> None:
    status, out, err = emu("explore", store_and_load(loaded=mistake))
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert complaint in err
    (command,) = commands(err.replace("; again: ", "\nagain: "), "again")
    status, _, replayed = emu(*command)
    assert status == 2
    assert replayed.strip() == err.split("; again: ")[0]


def test_a_loop_without_an_operation_is_ended(emu: Emu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "SECONDS", 0.2)
    status, out, err = emu("explore", store_and_load(loaded="while loaded: pass"))
    assert (status, out) == (2, "")
    assert "cpu1, at mine.py:25, runs on and on without awaiting an operation: await one in each round" in err
    assert "; again: emu replay emu-findings/mine-" in err


@pytest.mark.parametrize("host", ["direct", "trio"])
def test_a_nursery_is_refused_in_a_sentence(emu: Emu, host: str) -> None:
    path = store_and_load(loaded="async with trio.open_nursery() as n: n.start_soon(trio.sleep, 1)")
    done = command_line(path, "--host", host)
    assert done.returncode == 2
    assert "under a controlled strategy agents await operations only" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistake_before_the_first_step_is_named(emu: Emu) -> None:
    path = store_and_load()
    Path(path).write_text(Path(path).read_text().replace("loaded = await cpu.load64(0)", "raise KeyError('x')"))
    assert emu("explore", path) == (2, "", "emu: cpu1, at mine.py:24, raised KeyError: 'x'\n")


@pytest.mark.parametrize("strategy", ["optimal", "depth-first", "random"])
def test_a_scenario_that_keeps_state_between_executions_is_refused(emu: Emu, strategy: str) -> None:
    path = store_and_load(stored="await cpu.store64(8 * number, 1)")
    status, out, err = emu("explore", path, "--strategy", strategy)
    assert (status, out) == (2, "")
    assert "cpu0, at step " in err
    assert "did memory.store address=8 old=0 value=1, and when the same schedule was repeated memory.store" in err
    assert err.endswith("something is kept between executions; make all of it anew in the scenario's function\n")


@pytest.mark.parametrize("strategy", ["optimal", "depth-first"])
def test_a_scenario_that_acts_otherwise_in_later_executions_is_refused(emu: Emu, strategy: str) -> None:
    path = Path(store_and_load(loaded="await cpu.load64(0)"))
    path.write_text(path.read_text().replace("= await", "= await cpu.store64(0, 2) if number > 4 else await"))
    status, out, err = emu("explore", str(path), "--strategy", strategy)
    assert (status, out) == (2, "")
    assert "and did something else after the very same steps in an earlier execution: something is kept" in err


@pytest.mark.parametrize("change", ["later", "hidden"])
def test_state_that_a_scenario_keeps_after_a_finding_is_no_bug_of_emu(emu: Emu, change: str) -> None:
    path = Path(two_owners())
    text = path.read_text().replace(
        "    domain", "    global executions; number = executions = executions + 1\n    domain", 1
    )
    if change == "later":
        text = text.replace(
            "await m.hypervisor.map", "if number > 8: await cpu.load64(0)\n        await m.hypervisor.map"
        )
    else:
        text = text.replace("    m.premap", "    [m.allocate() for _ in range(max(number, 3))]\n    m.premap")
    path.write_text(text)
    status, _, err = emu("explore", str(path))
    assert status == 2
    assert "something is kept between executions" in err


def test_where_no_schedule_can_be_saved_the_replay_has_it_as_a_token(emu: Emu) -> None:
    Path("file").touch()
    status, out, err = emu("explore", "remap_before_flush", "--schedules", "file")
    assert status == 0
    assert err == "emu: the schedule cannot be saved in 'file': File exists\n"
    (command,) = commands(out, "replay")
    assert command[1].startswith("emu1:")
    status, replayed, _ = emu(*command)
    assert status == 0
    assert findings(replayed) == findings(out)


def test_schedules_are_saved_where_the_user_wants_them(emu: Emu) -> None:
    Path("kept").mkdir()
    _, out, _ = emu("explore", "remap_before_flush", "--schedules", "kept")
    (command,) = commands(out, "replay")
    assert Path(command[1]).parent.name == "kept"
    assert list(Path().glob("*.json")) == []


def test_a_clean_exploration_saves_nothing(emu: Emu) -> None:
    emu("explore", "two_wait_for_mapping_lock")
    assert list(Path().iterdir()) == []


def test_the_same_bytes_are_printed_for_every_hash_seed(emu: Emu) -> None:
    for folder in ("one", "two"):
        Path(folder).mkdir()
    arguments = ("map_same_frame_before_flush", "--json", "--schedules")
    one, two = (command_line(*arguments, folder, hash_seed=seed) for folder, seed in (("one", "1"), ("two", "2")))
    assert one.stdout == two.stdout.replace("two/", "one/")
    assert one.stdout.count("emu replay one/map_same_frame_before_flush-") == 2
    first, second = ({path.name: path.read_bytes() for path in Path(folder).iterdir()} for folder in ("one", "two"))
    assert first == second
    assert len(first) == 2


def test_a_bug_of_emu_has_a_status_of_its_own(emu: Emu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Requests, "translated", lambda *_: [])
    status, out, _ = emu("explore", "remap_before_flush", "-p", "dma=1")
    assert status == 70
    assert "used what the ledger forbids; this is a bug of emu" in words(out)
