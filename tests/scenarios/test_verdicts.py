"""Verdict tables: the row that counts, the cells of a row, and the tables that are refused."""

import pytest

from emu.checks.details import Evidence
from emu.checks.findings import FindingKind
from emu.errors import ScenarioError
from emu.machine.machine import Machine
from emu.scenarios.expectation import CLEAN, LOST_ERROR, OWED, RELEASED, STALE, Expectation, parse_expectation
from emu.scenarios.library import bundled_names, find
from emu.scenarios.scenario import scenario
from emu.scenarios.verdicts import Verdicts

NAMES = {"lock", "dirty", "order", "coherent", "iommu"}

TABLE = Verdicts.of(
    """
    # The lock keeps everybody out.
    parameters                     | implicit            | v1    | merged | flush_on_error
    lock=per-call,across dirty=yes | clean
    order>1                        | released,lost-error | clean | owed   | clean  # a remark
    coherent=false                 | no claim: D21 undoes the flush
    -                              | stale
    """
)


@pytest.mark.parametrize(
    ("values", "revision", "declared"),
    [
        ({}, "v1", STALE),
        ({"lock": "across", "dirty": "yes"}, "v1", CLEAN),
        ({"lock": "across", "dirty": "no"}, "v1", STALE),
        ({"order": 1}, "implicit", STALE),
        ({"order": 2}, "implicit", RELEASED.with_also(LOST_ERROR)),
        ({"order": 7}, "merged", OWED),
        ({"lock": "per-call", "dirty": "yes", "order": 7}, "merged", CLEAN),
    ],
)
def test_the_first_row_of_which_all_conditions_hold_counts(
    values: dict[str, object], revision: str, declared: Expectation
) -> None:
    assert (
        TABLE(revision=revision, **{"order": 0, "lock": "none", "dirty": "no", "coherent": True, **values}) == declared
    )


def test_a_row_may_say_why_it_claims_nothing() -> None:
    assert TABLE(revision="v1", coherent=False).unclaimed == "with this setting: D21 undoes the flush"


def test_nothing_is_claimed_of_a_revision_without_a_column() -> None:
    table = Verdicts.of("parameters | v1 | merged\n- | clean | stale")
    assert table(revision="implicit").unclaimed == "about revision implicit"


def test_the_cells_are_the_values_of_each_row_that_claims_something_and_the_defaults_are_first() -> None:
    assert TABLE.cells("vtd", NAMES) == ("", "lock=per-call dirty=yes", "lock=across dirty=yes", "order=2")


OF_VENDORS = Verdicts.of(
    """
    iommu=amd order>1 | no claim: what order does there is not known
    iommu=amd np=true | owed
    iommu=vtd cm=true | stale
    iommu=amd         | stale
    cm=true           | owed
    order>1           | clean
    -                 | clean
    """
)


def test_a_row_has_cells_for_each_vendor_that_it_is_about_and_that_has_its_settings() -> None:
    assert OF_VENDORS.cells("vtd", {"iommu", "order", "cm"}) == ("", "cm=true", "order=2")
    assert OF_VENDORS.cells("amd", {"iommu", "order", "np"}) == ("", "np=true", "order=2")


def test_the_vendor_is_a_condition_like_any_other() -> None:
    assert OF_VENDORS(revision="v1", iommu="vtd", order=0) == CLEAN
    assert OF_VENDORS(revision="v1", iommu="amd", order=0) == STALE
    assert OF_VENDORS(revision="v1", iommu="amd", order=2).unclaimed


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("order=1 | clean", "ends with a row for all other parameters"),
        ("", "ends with a row for all other parameters"),
        ("order<1 | clean\n- | clean", "asks for 'order<1': write name=value, name=value,value or name>number"),
        ("order>x | clean\n- | clean", "asks for 'order>x'"),
        ("- | clean | stale", "has 2 verdicts in '- | clean | stale': give one for all, or 4"),
        ("- | cleen", "there is no kind of finding 'cleen'"),
        ("- | illegal-translation", "there is no kind of finding 'illegal-translation'"),
        ("- | stale,", "there is no kind of finding ''"),
        ("parameters | merge\n- | clean", "has a column 'merge': name each of implicit, v1, merged, flush_on_error"),
        ("parameters | v1 | v1\n- | clean", "has a column 'v1'"),
    ],
)
def test_a_text_that_is_no_table_is_refused_with_the_line_or_the_word(text: str, problem: str) -> None:
    with pytest.raises(ScenarioError, match=problem.replace("|", r"\|")):
        Verdicts.of(text)


def test_the_first_kind_of_a_verdict_must_show_and_the_others_may() -> None:
    assert parse_expectation("clean") == CLEAN
    assert parse_expectation("stale,lost-error,owed") == STALE.with_also(LOST_ERROR, OWED)
    assert parse_expectation("stale:observed") == Expectation(FindingKind.STALE, Evidence.OBSERVED)


def test_a_table_with_an_unknown_parameter_is_refused() -> None:
    def story(m: Machine, *, order: int = 0) -> None:
        """Nothing happens."""

    with pytest.raises(ScenarioError, match=r"story: its verdict table asks for 'ordr' \(did you mean 'order'\?\)"):
        scenario(verdicts="ordr=1 | clean\n- | clean")(story)


def test_expect_and_verdicts_do_not_go_together() -> None:
    with pytest.raises(ScenarioError, match="declares its verdict once"):
        scenario(expect=CLEAN, verdicts="- | clean")


@pytest.mark.parametrize("name", bundled_names())
def test_each_scenario_that_comes_with_emu_has_parameters_for_the_conditions_of_its_table(name: str) -> None:
    one = find(name)
    for cell in one.cells:
        texts = dict(pair.split("=") for pair in cell.split())
        for revision in one.platform_of(texts).revisions:
            assert not one.bind({**texts, "revision": revision}).expectation.unclaimed


def test_a_copy_of_a_revision_has_no_claim_and_the_user_may_state_one() -> None:
    @scenario(verdicts="parameters | v1 | merged\n- | clean | stale")
    def story(m: Machine) -> None:
        """Nothing happens."""

    bound = story.bind({"revision": "merged"})
    assert bound.expectation == STALE
    assert bound.claiming("clean", None).expectation == CLEAN
    assert bound.claiming(None, "v1").expectation == CLEAN
    assert bound.claiming("declared", None).expectation == STALE
    with pytest.raises(ScenarioError, match="both state a claim"):
        bound.claiming("clean", "v1")
    with pytest.raises(ScenarioError, match="--like takes a revision that comes with emu, not 'mine'"):
        bound.claiming(None, "mine")
