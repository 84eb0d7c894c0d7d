"""A value change dump, as pyvcd reads it back."""

import io
import sys
from typing import Any

import pytest
from vcd.reader import TokenKind, tokenize

from emu.errors import ScenarioError
from emu.reports.exports.vcd import vcd
from emu.reports.key_types import value_in
from emu.reports.log import Record
from tests.reports.race import VARIED, race, recorded, records_of

CHANGES = {TokenKind.CHANGE_SCALAR, TokenKind.CHANGE_VECTOR, TokenKind.CHANGE_STRING}


def read(records: list[Record]) -> dict[str, dict[int, Any]]:
    """Return the values of each signal by the step at which they begin."""
    names: dict[str, str] = {}
    scopes: list[str] = []
    values: dict[str, dict[int, Any]] = {}
    step = 0
    for token in tokenize(io.BytesIO(vcd(recorded(records)))):
        if token.kind is TokenKind.SCOPE:
            scopes.append(token.scope.ident)
        elif token.kind is TokenKind.UPSCOPE:
            scopes.pop()
        elif token.kind is TokenKind.VAR:
            names[token.var.id_code] = ".".join([*scopes, token.var.reference])
        elif token.kind is TokenKind.CHANGE_TIME:
            step = token.time_change
        elif token.kind in CHANGES:
            change: Any = token.data
            values.setdefault(names[change.id_code], {})[step] = change.value
    return values


def test_a_lock_has_its_owner_and_is_free_between_two() -> None:
    locks = read(race())
    assert locks["locks.d1_mapping_lock"] == {0: "free", 4: "cpu0", 13: "cpu1", 26: "free"}
    assert locks["locks.vtd0_register_lock"] == {0: "free", 32: "cpu0", 46: "free", 50: "cpu0", 61: "free"}


def test_an_entry_has_its_words_and_the_iotlb_what_it_has_cached_of_the_page() -> None:
    values = read(race())
    assert values["entries.d1_0x1000_level1"] == {0: 0x180002803, 12: 0, 24: 0x180003803}
    assert values["vtd0.iotlb_tag1_0x1000"] == {0: "x", 1: "1", 44: "0", 64: "1"}
    assert values["vtd0.pending_invalidations"] == {0: 0, 40: 1, 45: 0}


def test_the_agent_of_each_step_is_the_one_that_took_it() -> None:
    agent, values = None, read(race())["execution.agent"]
    for event in recorded(race()).events:
        agent = values.get(event.step, agent)
        assert not event.step or agent == event.agent


@pytest.mark.parametrize("name", VARIED)
def test_the_flag_is_that_which_each_cpu_has_written(name: str) -> None:
    records = records_of(name)
    values = read(records)
    for number in {record["cpu"] for record in records if "cpu" in record}:
        written = {0: "0"}
        for record in records:
            if record["event"] == "percpu.write" and record["cpu"] == number:
                written[record["step"]] = "1" if value_in(record, "value") else "0"
        assert values[f"cpu{number}.iommu_dont_flush_iotlb"] == changes(written)


def changes(values: dict[int, str]) -> dict[int, str]:
    """Return the steps at which a value is another than before."""
    steps = sorted(values)
    return {
        one: values[one]
        for one, before in zip(steps, [None, *steps], strict=False)
        if before is None or values[one] != values[before]
    }


@pytest.mark.parametrize("name", VARIED)
def test_no_invalidation_is_pending_where_each_was_waited_for(name: str) -> None:
    pending = [values for signal, values in read(records_of(name)).items() if signal.endswith("pending_invalidations")]
    assert all(max(one.values()) > 0 for one in pending)
    if name != "completion_wait_given_up":
        assert all(one[max(one)] == 0 for one in pending)


def test_hostile_names_are_made_of_plain_characters_and_stay_apart() -> None:
    records: list[Record] = [
        {"event": "lock.ticket", "level": "info", "step": step, "cpu": 0, "lock": lock}
        for step, lock in enumerate(("a b", "a\n$end", "a_b", "", "é"), 1)
    ]
    names = [name for name in read(records) if name.startswith("locks.")]
    assert sorted(names) == ["locks._", "locks.__", "locks.a__end", "locks.a_b", "locks.a_b_"]


def test_without_pyvcd_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vcd", None)
    with pytest.raises(ScenarioError, match=r"pyvcd, which is missing: pip install 'emu-iommu\[vcd\]'"):
        vcd(recorded(race()))
