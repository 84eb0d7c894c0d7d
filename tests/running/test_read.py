"""Reading saved schedules: a file of any content is read or refused."""

import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emu.errors import ScenarioError
from emu.running.read import read
from emu.running.replay import Replay
from tests.running.saved import saved


def hostile(**changes: Any) -> bytes:
    """Return the file of a schedule with some of its values changed."""
    data = orjson.loads(saved().token_content())
    data.update(changes)
    return orjson.dumps(data)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"scenario": {"name": "../evil.py", "digest": "", "is_bundled": True}},
            "'../evil.py' is no name of a scenario",
        ),
        ({"scenario": {"name": "a\0b", "digest": "", "is_bundled": False}}, "is no name of a scenario"),
        ({"scenario": {"name": "evil", "digest": "", "is_bundled": True}}, "does not come with emu"),
        ({"strategy": "\x1b[31m"}, "holds characters that cannot be printed"),
        ({"parameters": {"\0": "1"}}, "holds characters that cannot be printed"),
        ({"scenario": {"name": "mine", "digest": "", "is_bundled": False}}, "add the path of its file"),
        ({"revision": {"name": "../../evil", "digest": "", "is_bundled": True}}, "-p revision=PATH"),
        ({"revision": {"name": "mine", "digest": "", "is_bundled": False}}, "-p revision=PATH"),
        ({"parameters": {"revision": "../evil", "nonsense": "1"}}, "has no parameter 'nonsense'"),
        ({"parameters": {"order": "99"}}, "order takes a whole number"),
        ({"turns": [[0, 10**9]]}, "more than 1000000 steps"),
        ({"turns": [[99, 1]]}, "agents that it does not have"),
        ({"turns": [[0, -5]]}, "agents that it does not have"),
        ({"seed": "0"}, "is no schedule: TypeError"),
        ({"operations": ["x"]}, "does not have one operation for each step"),
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
def test_a_file_with_any_content_is_replayed_or_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
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
