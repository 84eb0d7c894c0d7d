"""`emu run`: its output, its files, and its exit status."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Emu = Callable[..., tuple[int, str, str]]

RACE = ("run", "remap_before_flush", "-p", "dma=8", "--executions", "1000")


def test_the_race_is_shown_with_its_facts_its_steps_in_columns_and_the_command_that_repeats_it(emu: Emu) -> None:
    status, out, err = emu(*RACE)
    assert (status, err) == (0, "")
    text = " ".join(out.split())
    for part in (
        "stale translation (observed): vtd0 could still translate dfn 0x1000 to mfn 0x180002 ",
        " promise cpu1's map of domain 1 dfn 0x1000 returned success at step",
        " change cpu0 replaced that entry at step",
        "(emu/hypervisor/revisions/v1/vtd.py:",
        " flush came late: cpu0 submitted it at step",
        "(emu/hypervisor/revisions/v1/iommu.py:",
        " use device 00:1f.0 read mfn 0x180002 through vtd0 at step",
        " window from step",
        " step cpu0 cpu1 00:1f.0 vtd0 ",
        " entry 0x1000 = not present ",
        "remap_before_flush declares stale, observed: shown by execution",
        "again: emu run remap_before_flush -p dma=8 --seed",
    ):
        assert part in text
    assert "pte.clear" not in out


def test_the_log_is_printed_before_the_report_only_if_it_is_asked_for(emu: Emu) -> None:
    out, with_log = (emu(*RACE, *option)[1].split("again: ")[0] for option in ((), ("--show-log",)))
    assert with_log.endswith(f"\n\n{out}")
    assert "pte.clear" in with_log


def test_the_printed_command_shows_the_same_finding_again(emu: Emu) -> None:
    _, out, _ = emu(*RACE)
    command = next(line.removeprefix("again: emu ") for line in out.splitlines() if line.startswith("again: "))
    status, again, _ = emu(*shlex.split(command))
    assert status == 0

    def finding(text: str) -> list[str]:
        start = text.index("stale translation")
        return text[start : text.index("remap_before_flush declares")].split()

    assert finding(again) == finding(out)


def test_both_hosts_print_the_same(emu: Emu) -> None:
    outs = [emu(*RACE, "--host", host)[1].split("replay: ")[0] for host in ("direct", "trio")]
    assert outs[0] == outs[1]


def test_json_reports_the_finding_with_its_steps_and_sources(emu: Emu) -> None:
    status, out, _ = emu(*RACE, "--json")
    report = json.loads(out)
    assert status == 0
    assert (report["verdict"], report["declared"]) == ("shown", "stale, observed")
    (finding,) = report["findings"]
    assert (finding["kind"], finding["evidence"], finding["dfn"], finding["mfn"]) == (
        "stale",
        "observed",
        0x1000,
        0x180002,
    )
    assert finding["use"]["device"] == "00:1f.0"
    assert finding["flush"]["agent"] == "cpu0"
    assert finding["window"] == finding["flush"]["completed"] - finding["changed"]
    assert finding["changed"] < finding["step"] < finding["use"]["step"] <= finding["flush"]["completed"]


def test_the_log_file_holds_a_json_line_for_each_event_and_the_finding_as_a_warning(emu: Emu, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    emu(*RACE, "--log", str(path))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [lines[0]["event"], lines[-1]["event"]] == ["execution.begin", "execution.end"]
    assert {line["execution"] for line in lines} == {lines[0]["seed"]}
    (warning,) = [line for line in lines if line["level"] == "warning"]
    assert (warning["event"], warning["kind"], warning["evidence"]) == ("finding", "stale", "observed")
    assert (warning["domain"], warning["dfn"], warning["iommu"], warning["agent"]) == (1, 0x1000, "vtd0", "cpu1")
    cleared = next(line for line in lines if line["event"] == "pte.clear")
    assert (cleared["cpu"], cleared["domain"], cleared["dfn"]) == (0, 1, 0x1000)
    assert cleared["source"].startswith("emu/hypervisor/revisions/v1/vtd.py:")


def test_one_execution_that_does_not_show_the_finding_contradicts_nothing(emu: Emu) -> None:
    status, out, _ = emu("run", "remap_before_flush", "--strategy", "round-robin")
    assert status == 0
    assert "not contradicted by 1 execution; to search for it: --executions 1000" in " ".join(out.split())


def test_many_executions_that_do_not_show_the_finding_end_without_a_verdict(emu: Emu) -> None:
    status, out, _ = emu("run", "remap_before_flush", "--strategy", "round-robin", "--executions", "5")
    assert status == 3
    assert "no verdict after 1 execution" in " ".join(out.split())


def test_a_limit_that_is_reached_is_named_and_ends_without_a_verdict(emu: Emu) -> None:
    status, out, _ = emu("run", "remap_before_flush", "-p", "steps=10")
    assert status == 3
    assert "took 10 steps without ending (limit 'steps')" in " ".join(out.split())


def test_a_finding_that_is_not_declared_contradicts_the_scenario(emu: Emu, tmp_path: Path) -> None:
    path = tmp_path / "mistaken.py"
    path.write_text(
        "from emu import CLEAN, Machine, scenario\n"
        "@scenario(expect=CLEAN, sequential=True)\n"
        "def mistaken(m: Machine) -> None:\n"
        "    '''Wait for what never comes.'''\n"
        "    never = m.signal('never')\n"
        "    @m.cpu(0)\n"
        "    async def waiter(cpu):\n"
        "        await never.wait()\n"
    )
    status, out, _ = emu("run", str(path))
    assert status == 1
    text = " ".join(out.split())
    assert "deadlock: no agent can go on after step 0 cpu0 waits for the signal 'never' since step 0" in text
    assert f"again: emu run {path} --seed 0" in out


def test_a_finding_of_a_free_running_execution_has_no_command_and_can_be_replayed(emu: Emu) -> None:
    arguments = ("map_same_frame_before_flush", "--strategy", "free", "--executions", "50")
    status, out, _ = emu("run", *arguments)
    assert status == 0
    assert "again: " not in out
    command = next(line.removeprefix("replay: emu ") for line in out.splitlines() if line.startswith("replay: "))
    assert emu(*shlex.split(command))[0] == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "there is no scenario 'nowhere'"),
        (["remap_before_flash"], "did you mean 'remap_before_flush'"),
        (["remap_before_flush", "-p", "ordr=1"], "did you mean 'order'"),
        (["remap_before_flush", "-p", "order=one"], "order takes a whole number from 0 to 12, not 'one'"),
        (["remap_before_flush", "-p", "order"], "-p takes NAME=VALUE, not 'order'"),
        (["remap_before_flush", "-p", "repaired=perhaps"], "repaired takes true or false"),
        (["remap_before_flush", "--log", "/nowhere/at/all"], "the log '/nowhere/at/all' cannot be written"),
        (["remap_before_flush", "--log", "/"], "the log '/' cannot be written"),
        (["remap_before_flush", "--strategy", "free", "--host", "direct"], "runs on Trio only"),
        (["remap_before_flush", "--seed", "x"], "'x' is not a valid integer"),
        (["map_fails_halfway", "-p", "order=0"], "set failing_page below its size"),
        ([], "Missing argument 'SCENARIO'"),
    ],
)
def test_bad_input_is_one_sentence_on_stderr_and_status_2(emu: Emu, arguments: list[str], complaint: str) -> None:
    status, out, err = emu("run", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("emu: ")
    assert err.count("\n") == 1
    assert complaint in err


@pytest.mark.parametrize("verb", ["run map_fails_halfway", "list"])
def test_output_that_nobody_reads_ends_quietly_with_a_status_of_its_own(verb: str) -> None:
    command = f"set -o pipefail; {sys.executable} -m emu {verb} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk_is_one_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "emu", "list"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "emu: cannot write: No space left on device\n")


def test_executions_with_findings_that_come_close_are_counted_and_the_first_is_shown(emu: Emu) -> None:
    status, out, _ = emu("run", "remap_before_flush", "-p", "dma=1", "--executions", "50")
    assert status == 3
    assert "stale translation (possible)" in out
    assert re.search(r"not shown in 50 executions; \d+ come close, the first with seed \d+", " ".join(out.split()))


def test_the_repeated_execution_writes_the_same_log(emu: Emu, tmp_path: Path) -> None:
    _, out, _ = emu(*RACE, "--log", str(tmp_path / "first"))
    command = next(line.removeprefix("again: emu ") for line in out.splitlines() if line.startswith("again: "))
    emu(*shlex.split(command), "--log", str(tmp_path / "second"))
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


BROKEN = '''
from emu import CLEAN, Machine, scenario
import trio

@scenario(expect=CLEAN, sequential=True)
def broken(m: Machine) -> None:
    """Go wrong."""
    domain = m.domain(1)

    @m.cpu(0)
    async def culprit(cpu):
        await cpu.load64(0)
        {mistake}
'''


@pytest.mark.parametrize(
    ("mistake", "complaint"),
    [
        ("raise KeyError('x')", "cpu0, at broken.py:13, raised KeyError: 'x'"),
        ("raise SystemExit(3)", "cpu0, at broken.py:13, raised SystemExit: 3"),
        ("await m.hypervisor.map(cpu, domain, -1, 0)", "dfn -0x1 of order 0 lies beyond the reach"),
        (
            "await cpu.load64(3)",
            "align it and keep it below 2^52 (cpu0, at broken.py:13)",
        ),
        (
            "await trio.sleep(1)",
            "cpu0, at broken.py:13, awaited something that is not an operation",
        ),
    ],
)
def test_a_mistake_in_a_scenario_names_the_agent_the_line_and_the_command_and_keeps_the_log(
    emu: Emu, tmp_path: Path, mistake: str, complaint: str
) -> None:
    path, log = tmp_path / "broken.py", tmp_path / "log"
    path.write_text(BROKEN.format(mistake=mistake))
    status, out, err = emu("run", str(path), "--seed", "5", "--log", str(log))
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert complaint in err
    assert err.endswith(f"again: emu run {path} --seed 5\n")
    assert '"event":"memory.load"' in log.read_text()


def test_a_nursery_under_a_controlled_strategy_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text(BROKEN.format(mistake="async with trio.open_nursery() as n: n.start_soon(trio.sleep, 1)"))
    command = [sys.executable, "-m", "emu", "run", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "under a controlled strategy agents await operations only" in done.stderr
    assert "Traceback" not in done.stderr


def test_taking_a_lock_twice_is_a_deadlock(emu: Emu, tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    lock = "domain.mapping_lock.held(cpu)"
    path.write_text(BROKEN.format(mistake=f"async with {lock}, {lock}: pass"))
    status, out, _ = emu("run", str(path))
    assert status == 1
    assert "cpu0 waits for the lock d1.mapping_lock since step 4, held by cpu0 since step 2" in " ".join(out.split())


def test_no_colour_is_printed_to_a_pipe(emu: Emu) -> None:
    _, out, _ = emu(*RACE)
    assert "\x1b" not in out


def test_ctrl_c_ends_after_the_present_execution_with_the_report_and_the_whole_log(tmp_path: Path) -> None:
    path, log = tmp_path / "mine.py", tmp_path / "log"
    path.write_text(
        "import signal\nfrom emu import CLEAN, scenario\nbuilt = []\n"
        "@scenario(expect=CLEAN, sequential=True)\ndef mine(m):\n    built.append(m)\n"
        "    if len(built) == 3: signal.raise_signal(signal.SIGINT)\n"
        "    m.cpu(0).runs(load)\n"
        "async def load(cpu): await cpu.load64(0)\n"
    )
    command = [sys.executable, "-m", "emu", "run", str(path), "--executions", "1000", "--log", str(log)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == "emu: stopping after this execution; Ctrl-C again stops at once\n"
    assert "mine declares clean: no verdict after 3 executions (stopped)" in " ".join(done.stdout.split())
    assert done.returncode == 3
    assert log.read_text().splitlines()[-1].startswith('{"event":"execution.end"')
