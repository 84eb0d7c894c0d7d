"""Parameters: how they are declared, written and refused."""

from enum import Enum
from typing import Annotated

import attrs
import pytest

from emu.bundled import folder
from emu.cpus import Cpu
from emu.errors import ScenarioError
from emu.iommus.settings import MEANING, Bounds
from emu.iommus.vtd.settings import VtdSettings
from emu.machine.machine import Machine
from emu.platforms import AMD, VTD
from emu.running.run import Run
from emu.scenarios.expectation import CLEAN
from emu.scenarios.library import bundled, find
from emu.scenarios.parameters import settings_parameters
from emu.scenarios.scenario import Scenario, scenario


class Colour(Enum):
    RED = "red"
    DARK_BLUE = "dark-blue"


@scenario(expect=CLEAN, sequential=True)
def painted(
    m: Machine,
    *,
    count: Annotated[int, Bounds(1, 4)] = 2,
    colour: Colour = Colour.RED,
    wet: bool = False,
    label: str = "x",
) -> None:
    """Paint a machine.

    And more about it.
    """

    @m.cpu(0)
    async def painter(cpu: Cpu) -> None:
        for _ in range(count):
            await cpu.load64(0)


def test_a_scenario_takes_its_name_story_and_parameters_from_its_function() -> None:
    assert painted.name == "painted"
    assert painted.story == "Paint a machine."
    assert [parameter.name for parameter in painted.parameters] == ["count", "colour", "wet", "label"]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("count", "3", 3),
        ("count", "0x4", 4),
        ("colour", "dark-blue", Colour.DARK_BLUE),
        ("wet", "true", True),
        ("wet", "0", False),
        ("label", "any thing", "any thing"),
    ],
)
def test_a_value_is_read_as_the_type_of_its_parameter(name: str, text: str, value: object) -> None:
    assert painted.bind({name: text}).values[name] == value


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("count", "5", "count takes a whole number from 1 to 4, not '5'"),
        ("count", "many", "count takes a whole number from 1 to 4"),
        ("colour", "green", "colour takes one of red, dark-blue, not 'green'"),
        ("wet", "maybe", "wet takes true or false"),
        ("revision", "v9", "there is no revision 'v9': use one of implicit, v1, merged, flush_on_error, or a folder"),
        ("color", "red", "did you mean 'colour'"),
        ("iommu", "gart", "iommu takes one of vtd, amd, smmu, smmuv3, not 'gart'"),
        ("queue_entries", "1", "queue_entries takes a whole number from 2 to 256"),
        ("zzz", "1", "painted has no parameter 'zzz'; it has count, colour"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_it_takes(name: str, text: str, complaint: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        painted.bind({name: text})
    assert complaint in str(caught.value)


def test_changed_values_are_written_as_a_user_would() -> None:
    bound = painted.bind({"wet": "yes", "colour": "dark-blue", "count": "2", "levels": "3"})
    assert bound.changed() == ["colour=dark-blue", "wet=true", "levels=3"]


def test_a_parameter_without_a_default_is_refused() -> None:
    def unfinished(m: Machine, *, count: int) -> None:
        """Lack a default."""

    with pytest.raises(ScenarioError, match="give parameter count a default, and a type"):
        scenario(expect=CLEAN)(unfinished)


def lone(m: Machine) -> None:
    """Have one CPU work by itself."""

    @m.cpu(0)
    async def worker(cpu: Cpu) -> None:
        await cpu.load64(0)


@pytest.mark.parametrize("sequential", [True, False])
def test_a_scenario_in_which_nothing_is_concurrent_must_say_so(sequential: bool) -> None:
    alone: Scenario = scenario(expect=CLEAN, sequential=sequential)(lone)
    run = Run(alone.bind({}), "random", 0, 1)
    if sequential:
        run.on("direct")
    else:
        with pytest.raises(ScenarioError, match="in lone nothing runs concurrently"):
            run.on("direct")


def test_an_exception_of_a_scenarios_function_is_named() -> None:
    def broken(m: Machine) -> None:
        """Divide by nothing."""
        _ = 1 // 0

    with pytest.raises(
        ScenarioError, match=r"broken, at tests/scenarios/test_scenario\.py:\d+, raised ZeroDivisionError"
    ):
        scenario(expect=CLEAN)(broken).bind({}).build()


def test_a_scenario_is_found_by_name_or_by_path() -> None:
    by_name = find("remap_before_flush")
    assert find(str(folder("scenarios") / "remap_before_flush.py")).name == by_name.name
    assert set(bundled()) >= {"remap_before_flush", "map_dma_unmap_dma", "map_fails_halfway"}


def test_the_vendor_is_a_parameter_of_every_machine_and_vtd_by_default() -> None:
    assert painted.bind({"iommu": "vtd"}) == painted.bind({})
    assert painted.bind({}).values["iommu"] == "vtd"


def test_each_setting_of_a_unit_that_says_what_it_means_is_a_parameter_with_its_default_and_its_bounds() -> None:
    known = {parameter.name: parameter for parameter in settings_parameters(VTD)}
    fields = [field for field in attrs.fields(VtdSettings) if MEANING in field.metadata]
    assert list(known) == [field.name for field in fields]
    assert all(known[field.name].default == field.default for field in fields)
    assert known["levels"].takes() == "a whole number from 3 to 4"
    assert known["coherent"].meaning.startswith("ECAP.C: ")
    with pytest.raises(ValueError, match="levels"):
        VtdSettings(levels=5)


ONLY_AMD = scenario(expect=CLEAN, sequential=True, only={"amd": "the other has no command buffer"})(lone)


def test_a_scenario_of_one_vendor_is_run_on_that_vendor_unless_another_is_named_which_is_refused() -> None:
    assert ONLY_AMD.bind({}).platform is AMD
    assert ONLY_AMD.bind({}) == ONLY_AMD.bind({"iommu": "amd"})
    assert ONLY_AMD.bind({"np_cache": "true"}).changed() == ["np_cache=true"]
    assert ONLY_AMD.cells == ("",)
    with pytest.raises(ScenarioError) as caught:
        ONLY_AMD.bind({"iommu": "vtd"})
    assert str(caught.value) == ("lone is for amd only, and cannot be run on vtd: the other has no command buffer")


def test_a_scenario_of_all_vendors_has_cells_on_each() -> None:
    assert painted.cells == ("", "iommu=amd")


@pytest.mark.parametrize("only", [{"gart": "it is there"}, {"amd": ""}])
def test_vendors_that_there_are_not_or_without_a_reason_are_refused(only: dict[str, str]) -> None:
    with pytest.raises(ScenarioError, match="name one of vtd, amd, smmu, smmuv3, and why the others cannot run it"):
        scenario(expect=CLEAN, only=only)
