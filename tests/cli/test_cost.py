"""`emu cost`, as users see it."""

import orjson
import pytest
from click.testing import CliRunner

from emu.cli import cost
from emu.cli.verbs import cli
from emu.errors import ScenarioError
from emu.reports.cost import STORIES, line
from emu.running.cost import Call, Cost, count


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
