"""Facts of findings: one a line, with the steps that they are about."""

import re
from math import inf
from pathlib import Path

import orjson
import pytest

from emu.checks.details import Act
from emu.checks.findings import Finding, Illegal, NotIsolated
from emu.checks.isolation import NOTHING
from emu.checks.used import LateStatus
from emu.engine import Trace
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.reports import version
from emu.reports.exploration import ExplorationReport
from emu.reports.schedule_facts import schedule_facts
from emu.running.shrink import Need, Shortened
from emu.units import Dfn, Maddr, Mfn
from tests.fenced import rows
from tests.reports.told import bundled_reports, report, reports_of
from tests.running.explored import bundled_with, explored

PAGE = (Path(__file__).parent.parent.parent / "docs/reports.md").read_text()
LABELS = [re.sub("`", "", label) for label, _ in rows(PAGE, "label")]


NEEDS = [Need("one before two", ("cpu0", 1), ("cpu1", 1)), Need("three before four", ("cpu0", 2), ("cpu1", 2))]


def facts_of(name: str, parameters: str = "", number: int = 0) -> dict[str, str]:
    """Return the facts of a cause that a scenario shows, by label."""
    return {fact.label: fact.text for fact in reports_of(name, parameters)[number].facts}


def test_of_a_race_the_promise_the_change_the_flush_the_use_and_the_window_are_told() -> None:
    said = facts_of("remap_before_flush", "revision=v1")
    assert list(said) == ["promise", "change", "flush", "use", "window"]
    for label, part in (
        ("promise", r"cpu1's map of domain 1 dfn 0x1000 returned success at step \d+ \(scenarios/remap"),
        ("promise", r": from then on dfn 0x1000 should be mapped to mfn 0x180003$"),
        ("change", r"cpu0 replaced that entry at step \d+ \(emu/.*\): mfn 0x180002 -> not present$"),
        ("flush", r"^came late: cpu0 submitted it at step \d+ .*, and it completed at step \d+$"),
        ("use", r"^device 00:1f.0 read mfn 0x180002 through vtd0 at step \d+ \(an access that emu has added\)$"),
        ("window", r"^from step \d+ to step \d+, \d+ steps past the return$"),
    ):
        assert re.search(part, said[label]), said[label]


def test_a_late_write_back_is_told_with_the_flush_that_came_before_it() -> None:
    """D21: the flush of the call that promised began before the store of the other CPU had reached memory."""
    told = reports_of("unmap_twice_before_flush", "coherent=false revision=v1")[0]
    facts = {fact.label: fact for fact in told.facts}
    said = facts["own flush"].text
    assert re.match(r"cpu1's own flush, submitted at step \d+ .* came too early: it began at step \d+, and the ", said)
    assert facts["own flush"].values["shortfalls"] == ["unseen"]
    *_, began, arrived = map(int, re.findall(r"at step (\d+)", said))
    assert began < arrived
    written = [event.step for event in told.machine.trace.events() if event.name == "line.write_back"]
    assert arrived in written
    assert arrived in facts["own flush"].steps
    assert said in told.data()["message"]
    assert facts["store"].text == f"reached memory only at step {arrived}"


def test_a_flush_under_the_tag_of_another_domain_is_not_taken_for_one_of_the_domain_of_that_number() -> None:
    """D7: domain 1 has tag 2, and what was flushed is tag 1."""
    assert facts_of("softirq_in_hwdom_init")["flush"].endswith(
        "had tag 1, and at vtd0 domain 1 has tag 2; no other followed"
    )


@pytest.mark.parametrize(
    ("what", "label", "part"),
    [
        ("unmap_fails_halfway", "failure", "hook unmap_page failed with -ENOMEM on dfn 0x1001 after step"),
        ("entry_replaced_in_halves", "between", "0x7000000380001001, which leads to mfn 0x380001"),
        ("unity_map_fails_halfway", "left", "dfn 0x20000 is still mapped"),
        ("hook_errs_on_last_page", "asked", "dfn 0x1001 mapped to mfn 0x180005 to read and write"),
        ("hook_errs_on_last_page error=overshoot", "call", "cpu0's map of domain 1 dfn 0x1000, 2 pages"),
        ("unmap_from_dying_domain", "freed", "cpu0 freed the page table, mfn 0x101003, at step"),
        ("flag_left_set", "flag", "iommu_dont_flush_iotlb was still set, since step 1"),
        ("displace_while_moving revision=merged", "release", "cpu0 freed mfn 0x180003 at step"),
        ("write_in_flight drain=false", "flush", "vtd0 had not drained the access"),
        ("flush_hook_is_missing", "broken", "after step"),
        ("table_freed_before_flush iommu=amd", "flush", "was of leaves only and let cached table entries stay"),
    ],
)
def test_each_kind_has_facts_of_its_own(what: str, label: str, part: str) -> None:
    name, _, parameters = what.partition(" ")
    assert part in facts_of(name, parameters)[label]


def not_isolated(act: Act) -> NotIsolated:
    return NotIsolated(
        agent="00:1f.0" if act is Act.ACCESS else "cpu0",
        act=act,
        step=0,
        domain=2,
        dfn=Dfn(0x10),
        frame=Mfn(0x180002),
        unit="vtd0",
        owner=1,
        is_table=False,
        allowed=NOTHING,
    )


OF_NO_SCENARIO: list[Finding] = [
    *map(not_isolated, Act),
    LateStatus(9, "vtd0", Maddr(0x180002008), 3, "cpu0", 5, None),
    Illegal("00:1f.0", 7, "vtd0", Dfn(0x10), 0x1003),
]


def test_each_label_is_documented() -> None:
    machine = Machine(Description())
    told = [*bundled_reports(), *(report(one, machine) for one in OF_NO_SCENARIO)]
    labels = {
        fact.label for one in told for fact in one.facts if fact.label not in {a.name for a in one.machine.agents}
    }
    assert labels <= set(LABELS), labels - set(LABELS)
    assert "" not in {one.headline() for one in told}


def test_no_two_facts_of_a_finding_have_one_label() -> None:
    for one in bundled_reports():
        labels = [fact.label for fact in one.facts]
        assert len(labels) == len(set(labels)), labels


def test_facts_fit_the_terminal_and_hang_below_their_labels() -> None:
    for one in bundled_reports():
        lines = one.fact_lines(80)
        assert max(map(len, lines)) <= 80
        indent = 4 + max(9, *(len(fact.label) for fact in one.facts))
        assert [line[:indent].strip() for line in lines if line[:indent].strip()] == [one.label for one in one.facts]


def test_data_has_the_facts_by_label_and_the_steps_in_columns() -> None:
    for one in bundled_reports():
        data = orjson.loads(orjson.dumps(one.data()))
        assert list(data["facts"]) == [fact.label for fact in one.facts]
        assert data["facts"].keys() == {fact.label for fact in one.facts}
        assert {step["step"] for step in data["steps"] if step["is_marked"]} == {
            step for fact in data["facts"].values() for step in fact["steps"]
        }
        assert [step["step"] for step in data["steps"]] == sorted(step["step"] for step in data["steps"])


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (Shortened(1), {"schedule": "1 preemption"}),
        (Shortened(3, 41, is_minimal=True), {"schedule": "3 preemptions, down from 41 (minimal: proved)"}),
        (Shortened(2, 2, is_minimal=False), {"schedule": "2 preemptions (smallest found)"}),
        (
            Shortened(2, 3, is_minimal=False, cut_by="1 s"),
            {"schedule": "2 preemptions, down from 3 (smallest found; cut short: 1 s)"},
        ),
        (
            Shortened(0, needs=NEEDS),
            {"schedule": "0 preemptions", "it needs": "one before two\nthree before four"},
        ),
    ],
)
def test_what_is_known_of_the_schedule_is_told(schedule: Shortened, said: dict[str, str]) -> None:
    assert {fact.label: fact.text for fact in schedule_facts(schedule, Trace())} == said


def test_an_exploration_tells_what_shrinking_has_found() -> None:
    ((_, told),) = ExplorationReport(explored(bundled_with("remap_before_flush"), shrink=inf)).causes()
    assert [fact.label for fact in told.facts[-2:]] == ["schedule", "it needs"]
    assert told.data()["schedule"]["is_minimal"] is True


def test_an_exploration_that_does_not_shrink_tells_how_many_preemptions_there_are() -> None:
    ((_, told),) = ExplorationReport(explored(bundled_with("remap_before_flush"))).causes()
    assert told.facts[-1].label == "schedule"
    assert told.data()["schedule"]["found_with"] is None


def test_each_order_that_is_needed_has_a_line() -> None:
    (told,) = reports_of("remap_before_flush")
    lines = report(told.finding, told.machine, Shortened(2, needs=NEEDS)).fact_lines(80)
    assert lines[-3:] == [
        "  schedule   2 preemptions",
        "  it needs   one before two",
        "             three before four",
    ]


def test_a_report_names_the_commit_of_the_checkout_it_was_made_by(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"rev-parse": "0123abc", "status": " M emu/memory.py"}
    monkeypatch.setattr(version, "git", lambda word, *_: answers[word])
    assert version.made_by() == {"version": version.installed(), "commit": "0123abc", "is_changed": True}


def test_without_a_checkout_or_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(version, "PACKAGE", tmp_path / "emu")
    assert (version.made_by()["commit"], version.made_by()["is_changed"]) == (None, None)
    (tmp_path / ".git").mkdir()
    assert version.made_by()["commit"] is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert version.made_by()["commit"] is None
