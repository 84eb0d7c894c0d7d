"""The page of a timeline."""

import re
from html.parser import HTMLParser
from typing import Any

import orjson
import pytest

from emu.reports.log import Record
from emu.reports.timeline.data import timeline
from emu.reports.timeline.page import digest, page
from tests.reports.race import race, recorded

HOSTILE = "</script><img src=x onerror=alert(1)>\u2028<!--<script>"


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the content of scripts and styles."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found[-1:] and self.found[-1][0] in {"script", "style"} and data.strip():
            self.inside.append(data)


def test_hostile_values_end_no_element_and_are_read_back_as_they_were() -> None:
    records: list[Record] = [
        {"event": "execution.begin", "level": "info", "scenario": HOSTILE},
        {"event": HOSTILE, "level": "info", "step": 1, "device": HOSTILE, HOSTILE: [HOSTILE]},
        {"event": "finding", "level": "warning", "message": HOSTILE},
    ]
    data = timeline(recorded(records))
    elements = Elements(page(data).decode())
    plain = Elements(page(timeline(recorded(race()))).decode())
    assert [tag for tag, _ in elements.found] == [tag for tag, _ in plain.found]
    (embedded,) = re.findall(r'id="data">(.*?)</script>\n<script type="module">', page(data).decode(), re.DOTALL)
    assert not set(embedded) & set("<>&\u2028\u2029")
    assert any(orjson.loads(one) == data for one in elements.inside if one.startswith("{"))


def test_nothing_is_loaded_and_the_policy_names_the_one_style_and_the_one_script() -> None:
    content = page(timeline(recorded(race()))).decode()
    elements = Elements(content)
    loading: list[Any] = [
        (tag, value) for tag, keys in elements.found for key, value in keys.items() if key in {"src", "href", "action"}
    ]
    assert loading == [("link", "data:,")]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\((?!#)", content)
    (policy,) = [keys["content"] for _, keys in elements.found if keys.get("http-equiv") == "Content-Security-Policy"]
    style, _, script = elements.inside
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src '{digest(style)}'" in policy
    assert f"script-src '{digest(script)}'" in policy
    assert "unsafe" not in policy


def test_no_element_has_a_handler_or_a_style_of_its_own_which_the_policy_would_refuse() -> None:
    elements = Elements(page(timeline(recorded(race()))).decode())
    assert not [key for _, keys in elements.found for key in keys if key.startswith("on") or key == "style"]


@pytest.mark.parametrize("id_", ["chart", "status", "details", "findings", "filters"])
def test_what_changes_and_what_takes_keys_is_labelled(id_: str) -> None:
    (keys,) = [keys for _, keys in Elements(page(timeline(recorded(race()))).decode()).found if keys.get("id") == id_]
    assert keys.get("aria-label") or keys.get("aria-live")
