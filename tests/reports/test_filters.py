"""Filters: a line that is left out unparsed is one that would not pass."""

import io
from pathlib import Path
from typing import Any

import pytest

from emu.errors import ScenarioError
from emu.reports import reading
from emu.reports.filters import Filter, range_of
from emu.reports.log import Record
from emu.reports.reading import LeftOutError, read_records

VERSION_1 = (Path(__file__).parents[1] / "cli/version_1/run.log").read_bytes()
BEGIN = b'{"event":"execution.begin","level":"info","format":"emu-log-2","execution":0}\n'
NOW = BEGIN + b"".join(
    b'{"event":"%s","level":"info","execution":%d,"step":%d,"agent":"%s",%s}\n' % one
    for one in [
        (b"pte.write", 0, 1, b"cpu0", b'"domain":1,"dfn":4096,"old":0,"value":6442461187'),
        (b"lock.acquire", 0, 2, b"cpu1", b'"lock":"d1.mapping_lock"'),
        (b"lock.acquire", 0, 3, b"cpu10", b'"lock":"d10.mapping_lock"'),
        (b"call.enter", 1, 4, b"cpu1", b'"domain":10,"dfn":4090,"page_count":8'),
        (b"dma.read", 1, 5, b"00:1f.0", b'"dfn":4096,"mfn":1572866'),
        (b"page.free", 10, 6, b"cpu0", b'"mfn":1572866'),
        (b"page.free", 10, 7, b"cpu0", b'"mfn":1572867,"note":"\\u0063pu1"'),
        (b"finding", 10, 8, b"cpu0", b'"agents":["cpu0","vtd0"],"mfn":1'),
    ]
)


def passed(content: bytes, wanted: Filter, *, with_needles: bool) -> list[Record]:
    needles = wanted.needles() if with_needles else ()
    return [one for one in read_records(io.BytesIO(content), "x", needles) if wanted.passes(one)]


@pytest.mark.parametrize("content", [VERSION_1, NOW], ids=["format 1", "format 2"])
@pytest.mark.parametrize(
    "asked",
    [
        {"agents": ("cpu1",)},
        {"agents": ("vtd0", "00:1f.0")},
        {"executions": (1,)},
        {"executions": (0, 10)},
        {"domains": (1,)},
        {"locks": ("d1",)},
        {"events": ("pte", "lock.acquire")},
        {"events": ("pte",), "agents": ("cpu0",)},
        {"steps": ((2, 5),)},
        {"dfns": ((4096, 4096),)},
        {"frames": (0x180002,)},
    ],
)
def test_a_filter_passes_the_same_whether_or_not_lines_are_looked_over_first(
    content: bytes, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PARSED_FIRST", 0)
    wanted = Filter(**asked)
    found = passed(content, wanted, with_needles=True)
    assert found == passed(content, wanted, with_needles=False)
    assert found or content is VERSION_1


def test_a_line_that_does_not_pass_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PARSED_FIRST", 0)
    parsed: list[bytes] = []
    parse = reading.parse_record

    def noting(line: bytes, where: str) -> Record:
        parsed.append(line)
        return parse(line, where)

    monkeypatch.setattr(reading, "parse_record", noting)
    passed(NOW, Filter(events=("pte",)), with_needles=True)
    assert [line[:20] for line in parsed] == [BEGIN[:20], b'{"event":"pte.write"', b'{"event":"page.free"']


@pytest.mark.parametrize("damage", [b'{"event":"pte', b"no", b'{"event":"a"{"event":"pte.write","level":"info"}'])
def test_a_damaged_line_is_told_though_it_would_not_pass(damage: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PARSED_FIRST", 0)
    with pytest.raises(LeftOutError, match=r"^line 10 of 'x' .*left out: 1 of 10 lines"):
        passed(NOW + damage, Filter(agents=("cpu3",)), with_needles=True)


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        ({"agents": ("cpu1",)}, [2, 4]),
        ({"agents": ("vtd0",)}, [8]),
        ({"agents": ("cpu1", "vtd0")}, [2, 4, 8]),
        ({"executions": (1,)}, [4, 5]),
        ({"domains": (1, 10)}, [1, 4]),
        ({"locks": ("d1",)}, [2]),
        ({"locks": ("d10.mapping_lock", "d1.mapping_lock")}, [2, 3]),
        ({"dfns": ((4096, 4096),)}, [1, 4, 5]),
        ({"dfns": ((0, 4095),)}, [4]),
        ({"dfns": ((None, None),)}, [1, 4, 5]),
        ({"frames": (0x180002,)}, [1, 5, 6]),
        ({"frames": (0x180002, 0x180003)}, [1, 5, 6, 7]),
        ({"steps": ((None, 1), (7, None))}, [1, 7, 8]),
        ({"frames": (0x180002,), "events": ("dma", "pte"), "executions": (1,)}, [5]),
    ],
)
def test_different_attributes_are_anded_and_values_of_one_are_ored(asked: dict[str, Any], steps: list[int]) -> None:
    assert [record["step"] for record in passed(NOW, Filter(**asked), with_needles=True)] == steps


@pytest.mark.parametrize(
    ("text", "ends"), [("5", (5, 5)), ("0x10:", (16, None)), (":7", (None, 7)), (":", (None, None)), ("3:4", (3, 4))]
)
def test_a_range_has_both_ends_one_or_none(text: str, ends: tuple[int | None, int | None]) -> None:
    assert range_of(text, "--steps") == ends


@pytest.mark.parametrize(
    ("text", "said"), [("4:3", "ends before it begins: write 3:4"), ("a", "takes numbers"), ("1:b", "'b'")]
)
def test_a_text_that_is_no_range_is_refused_with_its_mend(text: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        range_of(text, "--dfn")


def test_the_rest_of_a_long_line_is_skipped_and_the_lines_behind_it_are_read() -> None:
    log = b"x" * (3 * reading.LINE_BYTES_MAX) + b"\n" + NOW
    found: list[Record] = []
    with pytest.raises(LeftOutError, match=r"^line 1 of 'x' is longer than 1 MiB.*; left out: 1 of 10 lines"):
        found.extend(read_records(io.BytesIO(log), "x"))
    assert [record.get("step", 0) for record in found] == list(range(9))


def test_a_line_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SKIPPED_BYTES_MAX", 4 * reading.LINE_BYTES_MAX)
    endless = io.BytesIO(b"x" * (9 * reading.LINE_BYTES_MAX))
    with pytest.raises(ScenarioError, match=r"is longer than 1 MiB: it is no log of emu$"):
        list(read_records(endless, "x"))
    assert endless.tell() < 6 * reading.LINE_BYTES_MAX
