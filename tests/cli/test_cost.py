"""`emu cost`, as users see it."""

from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from emu.cli import cost
from emu.cli.verbs import cli
from emu.errors import ScenarioError
from emu.reports.cost import STORIES, UNUSED, line
from emu.running.cost import NEW, ORDER_MAX, Call, Cost, count


def shown(*words: str) -> str:
    """Return what a command prints."""
    result = CliRunner().invoke(cli, ["cost", *words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_the_claim_of_the_patch_is_one_command() -> None:
    lines = {line.split()[0]: line.split()[1] for line in shown("replace", "--order", "9").splitlines() if line}
    assert (lines["implicit"], lines["v1"], lines["merged"]) == ("512", "1", "1")


def test_it_says_that_nothing_is_judged() -> None:
    assert "no checks, no histories, no trace" in " ".join(shown("unmap", "--order", "0").split())


def test_lines_fit_80_columns() -> None:
    revision = "some-folder-with-a-name/that-is-rather-long"
    assert len(cost_line(revision)) <= 80
    assert all(len(line) <= 80 for line in shown("--order", "0").splitlines())


def cost_line(revision: str) -> str:
    return line(Cost(Call.MAP, 0, revision, count(Call.MAP, 0, "v1", {}).counters))


def test_as_json_it_has_every_counter() -> None:
    data = orjson.loads(shown("unmap", "--order", "1", "--revision", "merged", "-p", "iommu=amd", "--json"))
    (only,) = data["costs"]
    assert data["format"] == "emu-cost-1"
    assert only["commands"] == {"pages order 9": 1, "wait": 1}
    assert {"flushes", "register_reads", "register_writes", "walks_caused", "dropped", "over_flushed"} <= only.keys()


def test_every_call_has_its_name_and_its_story() -> None:
    assert tuple(call.value for call in Call) == cost.CALLS
    assert list(STORIES) == list(Call)


@pytest.mark.parametrize("name", ["call", "order", "revision"])
def test_what_has_an_option_is_no_parameter(name: str) -> None:
    result = CliRunner().invoke(cli, ["cost", "map", "-p", f"{name}=1"], standalone_mode=False)
    assert "not -p" in str(result.exception)


def test_an_unknown_parameter_is_refused() -> None:
    result = CliRunner().invoke(cli, ["cost", "map", "-p", "unitz=1"], standalone_mode=False)
    assert isinstance(result.exception, ScenarioError)
    assert "did you mean" in str(result.exception)


@pytest.mark.parametrize("name", cost.JUDGED)
def test_what_changes_nothing_is_refused(name: str) -> None:
    result = CliRunner().invoke(cli, ["cost", "map", "-p", f"{name}=1"], standalone_mode=False)
    assert f"-p {name} changes nothing here" in str(result.exception)


def test_ctrl_c_ends_it_with_what_is_counted_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[object] = []

    def count_once(*words: Any) -> Cost:
        if counted:
            raise KeyboardInterrupt
        counted.append(words)
        return count(*words)

    monkeypatch.setattr("emu.running.cost.count", count_once)
    result = CliRunner().invoke(cli, ["cost", "map", "--order", "0", "--order", "1", "--revision", "v1"])
    assert "map 1 page that was not mapped (order 0)" in result.output
    assert "(order 1)" not in result.stdout
    assert "flushes: invalidations" in result.stdout


@pytest.mark.parametrize("use", ["shared", "passthrough", "off"])
def test_it_says_why_hooks_do_nothing(use: str) -> None:
    plain, said = (" ".join(shown("map", "--order", "0", *more).split()) for more in ((), ("-p", f"use={use}")))
    assert any(text in said and text not in plain for text in UNUSED.values())


def test_a_replaced_range_of_1_gib_fits() -> None:
    assert count(Call.REPLACE, 12, "v1", {}).counters.flushes == 1
    assert NEW % (1 << ORDER_MAX) == 0
