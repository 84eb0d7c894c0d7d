"""The page of a timeline, as a browser shows it."""

from collections.abc import Callable

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from emu.reports.filters import Filter
from emu.reports.log import Record
from tests.reports.race import many, race, recorded
from tests.reports.timeline.conftest import Browser

pytestmark = pytest.mark.ci_long

Show = Callable[..., Browser]

HOSTILE = "</script><img src=x onerror=alert(1)>"
ARROWS = "#marks .arrow"


def status(shown: Browser) -> str:
    """Return the step, the agent and the event that are selected."""
    return shown.text("#status").partition(": ")[0]


def arrows(shown: Browser) -> set[tuple[str | None, str | None]]:
    return {(one.get_attribute("data-from"), one.get_attribute("data-to")) for one in shown.all(ARROWS)}


def test_the_finding_stands_at_the_top_and_its_steps_are_marked_in_the_lanes(show: Show) -> None:
    shown = show(race())
    assert shown.text("#findings").startswith("Finding: stale translation (observed): when cpu1's map of domain 1")
    marks = {one.get_attribute("data-step") for one in shown.all("#marks .finding-mark")}
    assert marks == {"12", "35", "40", "41", "45"}
    shown.all("#findings .step")[2].click()
    assert status(shown) == "step 12, 00:1f.0, dma.read".replace(
        "00:1f.0, dma.read", "cpu0, pte.clear, a step of the finding"
    )


def test_arrow_keys_go_along_time_within_a_lane_and_between_lanes(show: Show) -> None:
    shown = show(race())
    shown.keys(Keys.HOME)
    assert status(shown) == "step 0, cpu0, hypercall.enter"
    shown.keys(Keys.ARROW_RIGHT)
    assert status(shown) == "step 0, cpu0, call.enter"
    shown.keys(Keys.SHIFT, Keys.ARROW_RIGHT)
    assert status(shown) == "step 4, cpu0, lock.ticket"
    shown.keys(Keys.ARROW_DOWN)
    assert status(shown) == "step 5, cpu1, lock.contend"
    shown.keys(Keys.ARROW_LEFT)
    assert status(shown) == "step 4, cpu0, lock.ticket"
    shown.keys(Keys.END)
    assert status(shown) == "step 70, 00:1f.0, dma.read"


def test_f_goes_from_step_to_step_of_the_finding_and_round(show: Show) -> None:
    shown = show(race())
    seen = []
    for _ in range(6):
        shown.keys("f")
        seen.append(status(shown).split()[1])
    assert seen == ["12,", "35,", "40,", "41,", "45,", "12,"]


def test_the_selected_event_shows_its_keys_its_source_and_what_goes_on_meanwhile(show: Show) -> None:
    shown = show(race())
    shown.keys("f")
    details = shown.text("#details")
    assert "old\n0x180002803" in details
    assert "source\nemu/hypervisor/revisions/v1/vtd.py:33" in details
    assert "cpu0 holds d1.mapping_lock, steps 4 to 13" in details


def test_arrows_show_on_what_the_selected_step_depends_and_none_without_it(show: Show) -> None:
    shown = show(race())
    assert arrows(shown) == set()
    for _ in range(2):
        shown.keys("f")
    assert ("34", "35") in arrows(shown)
    assert ("35", "41") in arrows(shown)
    assert all("35" in pair for pair in arrows(shown))
    shown.all("#details button")[0].click()
    shown.drawn()
    assert status(shown) == "step 34, 00:1f.0, dma.read"
    shown.keys(Keys.ESCAPE)
    assert arrows(shown) == set()


def test_a_filter_hides_events_and_lanes_and_keys_pass_over_what_is_hidden(show: Show) -> None:
    shown = show(race())
    assert shown.text("#count") == "76 events in 5 of 5 lanes"
    shown.keys("/")
    (event,) = shown.all("#event")
    assert event == shown.driver.switch_to.active_element
    shown.keys("pte.clear queue.post", into="#event")
    assert shown.text("#count") == "3 of 76 events in 2 of 5 lanes"
    shown.keys(Keys.ESCAPE, into="#event")
    shown.keys(Keys.HOME, Keys.ARROW_RIGHT)
    assert status(shown) == "step 40, cpu0, queue.post, a step of the finding"


@pytest.mark.parametrize(
    ("field", "text", "asked", "lanes"),
    [
        ("#agent", "cpu1", Filter(agents=("cpu1",)), "in 1 of 5 lanes"),
        ("#domain", "1", Filter(domains=(1,)), "in 3 of 5 lanes"),
        ("#dfn", "0x1000", Filter(dfns=((0x1000, 0x1000),)), "in 5 of 5 lanes"),
        ("#event", "iotlb", Filter(events=("iotlb",)), "in 3 of 5 lanes"),
    ],
)
def test_a_filter_passes_what_emu_log_lets_pass(show: Show, field: str, text: str, asked: Filter, lanes: str) -> None:
    shown = show(race())
    shown.keys(text, into=field)
    passing = [record for record in recorded(race()).events if asked.passes(record.record)]
    assert shown.text("#count") == f"{len(passing)} of 76 events {lanes}"
    shown.all("#clear")[0].click()
    shown.drawn()
    assert shown.text("#count") == "76 events in 5 of 5 lanes"


def test_a_filter_that_lets_nothing_pass_says_so(show: Show) -> None:
    shown = show(race())
    shown.keys("0x1001", into="#dfn")
    assert shown.text("#count") == "No event passes the filter."
    shown.keys(Keys.BACKSPACE, "x", into="#dfn")
    assert shown.all("#dfn")[0].get_attribute("aria-invalid") == "true"


def test_the_page_is_as_dark_as_its_reader_likes_it(show: Show) -> None:
    back = "return getComputedStyle(document.documentElement).backgroundColor"
    assert show(race(), theme="light").script(back) == "rgb(255, 255, 255)"
    shown = show(race(), theme="dark")
    dark = shown.script(back)
    assert dark != "rgb(255, 255, 255)"
    shown.keys("t")
    assert shown.script(back) == "rgb(255, 255, 255)"
    shown.all("#theme")[0].click()
    assert shown.script(back) == dark


@pytest.mark.parametrize("width", [360, 800, 1600])
def test_a_page_of_any_width_has_nothing_beside_it(show: Show, width: int) -> None:
    shown = show(race(), width=width)
    shown.keys("f")
    assert shown.script("return document.documentElement.scrollWidth") <= width
    shown.keys("?")
    assert "Keys and marks" in shown.text("#help")
    assert shown.script("return document.documentElement.scrollWidth") <= width


def test_a_long_execution_opens_at_its_finding_and_can_be_seen_whole(show: Show) -> None:
    records = [record for record in many(race(), 20) if record["event"] != "finding"]
    finding: Record = {"event": "finding", "level": "warning", "message": "after step 1200", "step": 1205}
    shown = show([*records, finding])
    assert shown.text("#count").startswith("1520 events")
    (mark, other) = shown.all("#marks .finding-mark")
    assert 120 < mark.rect["x"] < other.rect["x"] < 1200
    shown.keys("0")
    shown.keys(Keys.END)
    assert status(shown) == "step 1400, 00:1f.0, dma.read"


def test_a_hostile_log_stays_text(show: Show) -> None:
    records: list[Record] = [
        {"event": "execution.begin", "level": "info", "scenario": HOSTILE, "parameters": [HOSTILE]},
        {"event": HOSTILE, "level": "info", "step": 1, "device": HOSTILE, HOSTILE: HOSTILE, "domain": 1},
        {"event": "lock.ticket", "level": "info", "step": 2, "device": HOSTILE, "lock": HOSTILE},
        {"event": "finding", "level": "warning", "message": HOSTILE, "step": 1},
    ]
    shown = show(records)
    shown.keys("f")
    assert shown.all("img") == []
    assert shown.text("#findings") == f"Finding: {HOSTILE}"
    assert shown.text("#title") == HOSTILE
    assert f"{HOSTILE}\n{HOSTILE}" in shown.text("#details")


def test_an_event_is_found_by_pointer_and_by_tab(show: Show) -> None:
    shown = show(race())
    mark = next(one for one in shown.all("#marks .finding-mark") if one.get_attribute("data-step") == "41")
    pointer = ActionChains(shown.driver).move_to_element(mark.find_element("css selector", "circle"))
    pointer.perform()
    assert shown.text("#tip").startswith("step 41, 00:1f.0, dma.read\n")
    pointer.click().perform()
    assert status(shown) == "step 41, 00:1f.0, dma.read, a step of the finding"
    shown.all("#zoom-fit")[0].click()
    ActionChains(shown.driver).send_keys(Keys.TAB).perform()
    assert shown.driver.switch_to.active_element.get_attribute("id") == "chart"
