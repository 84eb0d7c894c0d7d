"""Saved schedules: what is read back, and what is refused, whatever a file holds."""

import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emu.devices.device import Commit
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import ScenarioError
from emu.running.read import read
from emu.running.replay import Replay
from emu.running.run import Run
from emu.running.save import SavedSchedule, save
from emu.running.witnessed import with_witness
from emu.scenarios.library import find
from emu.units import Dfn


def shown(name: str, **parameters: str) -> Run:
    run = Run(find(name).bind(parameters), "random", 0, 1000)
    run.on("direct")
    return run


def saved(name: str = "remap_before_flush", **parameters: str) -> SavedSchedule:
    schedule = save(shown(name, **parameters), name)
    assert schedule is not None
    return schedule


def test_a_schedule_reads_back_from_its_file_and_a_second_one_gets_a_file_of_its_own(tmp_path: Path) -> None:
    schedule = saved()
    first, second = schedule.write(tmp_path), schedule.write(tmp_path)
    assert first != second
    assert read(str(first)) == read(str(second)) == schedule


def test_a_token_reads_back_without_the_operations_and_fits_a_chat() -> None:
    schedule = saved(dma="8")
    token = schedule.token()
    assert len(token) < 1000
    assert read(token).schedule().agents == schedule.schedule().agents
    assert read(token).operations == []


@pytest.mark.parametrize("host", ["direct", "trio"])
@pytest.mark.parametrize("as_token", [False, True])
def test_a_replay_gives_the_same_trace_and_findings(host: str, as_token: bool, tmp_path: Path) -> None:
    run = shown("remap_before_flush", dma="8", iotlb_entries="1")
    schedule = save(run, "remap_before_flush")
    assert schedule is not None
    text = schedule.token() if as_token else str(schedule.write(tmp_path))
    again = Replay.of(text, None, {}).run(host)
    assert again.failure is None
    assert run.matters is not None
    assert again.matters is not None
    events = [
        [(event.step, event.agent.name, event.name, dict(event.fields)) for event in ended.machine.trace.events()]
        for ended in (run.matters, again.matters)
    ]
    assert events[0] == events[1]
    assert again.matters.findings == run.matters.findings


def test_a_witness_does_not_change_the_numbers_of_what_its_device_does_besides() -> None:
    machine = find("remap_before_flush").bind({"dma": "2"}).build()
    machine.add_witness("00:1f.0", Dfn(0x1000))
    direct.run(machine.execution(RoundRobinStrategy()))
    made = [
        (agent.name, operation.request.number & 0xFFFF_FFFF)
        for agent, operation in machine.trace.performed()
        if isinstance(operation, Commit)
    ]
    assert sorted(made) == [("00:1f.0", 0), ("00:1f.0", 1), ("00:1f.0 (witness)", 1 << 31)]


def test_a_witness_turns_possible_into_observed(tmp_path: Path) -> None:
    schedule = saved("map_same_frame_before_flush")
    repeated = Replay.of(str(schedule.write(tmp_path)), None, {})
    witnessed = with_witness(repeated, repeated.run("direct"))
    for host in ("direct", "trio"):
        run = witnessed.run(host)
        assert run.matters is not None
        (finding,) = run.matters.findings
        assert finding.use is not None  # type: ignore[union-attr]  # it is a stale translation
    assert read(str(witnessed.saved.write(tmp_path))) == witnessed.saved


def test_a_schedule_that_no_longer_fits_names_the_first_step_with_both_operations(tmp_path: Path) -> None:
    run = Replay.of(str(saved().write(tmp_path)), None, {"revision": "merged"}).run("direct")
    assert run.failure is not None
    words = str(run.failure)
    assert "the schedule no longer fits, from step" in words
    assert "then cpu0 did ReadBits read:bitmap/d1.iommu_bitmap" in words
    assert "now cpu0 is about to do ReadPerCpu read:percpu/iommu_dont_flush_iotlb" in words


def hostile(**changes: Any) -> bytes:
    """Return the file of a schedule with some of its values changed."""
    data = orjson.loads(saved().token_content())
    data.update(changes)
    return orjson.dumps(data)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"scenario": {"name": "../evil.py", "digest": "", "is_bundled": True}}, "does not come with emu"),
        ({"scenario": {"name": "mine", "digest": "", "is_bundled": False}}, "add the path of its file"),
        ({"revision": {"name": "../../evil", "digest": "", "is_bundled": True}}, "-p revision=PATH"),
        ({"revision": {"name": "mine", "digest": "", "is_bundled": False}}, "-p revision=PATH"),
        ({"parameters": {"revision": "../evil", "nonsense": "1"}}, "has no parameter 'nonsense'"),
        ({"parameters": {"order": "99"}}, "order takes a whole number"),
        ({"turns": [[0, 10**9]]}, "more than 1000000 steps"),
        ({"turns": [[99, 1]]}, "agents that it does not have"),
        ({"turns": [[0, -5]]}, "agents that it does not have"),
        ({"seed": "0"}, "is no schedule: TypeError"),
        ({"operations": ["x"]}, "not one operation for each step"),
        ({"format": "emu-schedule-9"}, "another version of emu"),
        ({"more": 1}, "is no schedule: ForbiddenExtraKeysError"),
    ],
)
def test_a_hostile_schedule_is_refused_in_a_sentence_and_loads_nothing(
    changes: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "hostile.json"
    path.write_bytes(hostile(**changes))
    with pytest.raises(ScenarioError) as caught:
        Replay.of(str(path), None, {})
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = [
    "format",
    "scenario",
    "revision",
    "parameters",
    "strategy",
    "seed",
    "agents",
    "turns",
    "choices",
    "operations",
    "witness",
]
GOOD = hostile()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Bytes at random, a schedule cut off or with bytes changed, or one with values of any kind."""
    match draw(st.integers(0, 3)):
        case 0:
            return draw(st.binary(max_size=200))
        case 1:
            return GOOD[: draw(st.integers(0, len(GOOD) - 1))]
        case 2:
            content = bytearray(GOOD)
            for _ in range(draw(st.integers(1, 6))):
                content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
            return bytes(content)
    data = orjson.loads(GOOD)
    for field in draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=3)):
        data[field] = draw(JSON)
    try:
        return orjson.dumps(data)
    except TypeError:
        return b"{}"


@settings(
    max_examples=500,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=damaged())
def test_whatever_a_file_holds_it_is_replayed_or_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "schedule.json"
    path.write_bytes(content)
    before = set(sys.modules)
    try:
        failure: Exception | None = Replay.of(str(path), None, {}).run("direct").failure
    except ScenarioError as error:
        failure = error
    assert "\n" not in str(failure)
    assert {name for name in set(sys.modules) - before if not name.startswith("emu")} == set()


@pytest.mark.parametrize("token", ["emu1:", "emu1:!!!!", "emu1:AAAA", "emu1:" + "A" * 2_000_000])
def test_a_damaged_token_is_refused_in_a_sentence(token: str) -> None:
    with pytest.raises(ScenarioError, match="the token is"):
        read(token)
