"""What docs/port-your-patch.md shows is what happens. Where one of these turns red, mend the page with it."""

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emu.cli import run_cli
from emu.hypervisor.revisions.executed import WATCHED
from emu.hypervisor.revisions.loader import load_folder
from emu.running.check import Change
from tests.fenced import fenced
from tests.revisions import change

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/port-your-patch.md").read_text()
DRIVER = ROOT / "emu/hypervisor/vtd"

Emu = Callable[[str], str]


@pytest.fixture
def emu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Emu]:
    """Run a line of the page in a folder of its own; return what it prints. It may end with `| tail` or `> FILE`."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    status = 0

    def run(line: str) -> str:
        nonlocal status
        if line == "echo $?":
            return f"{status}\n"
        command, _, file = line.partition(" > ")
        command, _, tail = command.partition(" | tail -n ")
        words = shlex.split(command)
        monkeypatch.setattr(sys, "argv", [*words, *(["-j", "1"] if words[1] == "check" else [])])
        forget()
        status = run_cli()
        out = capsys.readouterr().out
        if file:
            Path(file).write_text(out)
            return ""
        return "".join(out.splitlines(keepends=True)[-int(tail or 0) :])

    yield run
    forget()


def forget() -> None:
    """Forget what the process has loaded: each line of the page is a process of its own."""
    load_folder.cache_clear()
    WATCHED.clear()


def patch(text: str) -> None:
    """Apply a unified diff of one file, whose hunks must fit the lines that they name."""
    heading, *hunks = re.split(r"^(?=@@)", text, flags=re.MULTILINE)
    path = Path(heading.split()[1])
    lines = path.read_text().splitlines()
    for hunk in reversed(hunks):
        where, *changes = hunk.splitlines()
        start = int(where[4:].split()[0].partition(",")[0]) - 1
        old = [line[1:] for line in changes if not line.startswith("+")]
        assert lines[start : start + len(old)] == old
        lines[start : start + len(old)] = [line[1:] for line in changes if not line.startswith("-")]
    path.write_text("\n".join(lines) + "\n")


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table whose first column has this heading."""
    table = PAGE[PAGE.index(f"\n| {heading} ") :].partition("\n\n")[0].strip().splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


def names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_the_page_taken_from_top_to_bottom_prints_what_it_shows(emu: Emu) -> None:
    for language, text in fenced(PAGE):
        if language == "diff":
            patch(text)
            continue
        assert language == "console"
        for step in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            line, _, shown = step.partition("\n")
            assert emu(line) == shown


def test_the_patch_of_the_page_is_the_bundled_one(emu: Emu) -> None:
    emu("emu new revision mine --from merged")
    for language, text in fenced(PAGE):
        if language == "diff":
            patch(text)
    command = "emu check ./mine --against flush_on_error failed_map_leaves_entries | tail -n 1"
    assert emu(command) == "./mine against flush_on_error: nothing is new\n"


def test_a_finding_is_one_of_the_words_that_are_explained() -> None:
    assert {row[0].strip("`") for row in rows("word")} == {change.value for change in Change}


def test_each_option_is_one_of_check(emu: Emu) -> None:
    options = {line.split()[0] for line in emu("emu check --help").splitlines() if line.startswith("  -")}
    assert {row[0].strip("`").split()[0] for row in rows("option")} | {"--against", "-h,"} == options


def test_each_function_stands_where_it_is_said_to_stand() -> None:
    table = rows("in Xen")
    assert len(table) > 10
    for xen, ours, where in table:
        folder = DRIVER.parent / "revisions/merged" if where in {"`iommu.py`", "`vtd.py`"} else DRIVER
        source = (folder / where.strip("`")).read_text()
        for name in names(xen if ours == "the same" else ours):
            assert f"async def {name}(" in source


def test_what_a_hook_is_made_of_stands_in_the_bundled_one() -> None:
    hooks = (DRIVER.parent / "revisions/merged/vtd.py").read_text()
    for _, ours in rows("in Xen's vtd/iommu.c"):
        for name in re.findall(r"(\w+)\(", ours):
            assert f"{name}(" in hooks


def test_a_section_that_does_more_than_it_declares_is_taken_step_by_step(emu: Emu) -> None:
    explore = "emu explore remap_before_flush -p revision="
    assert "sections of\nd1.mapping_lock taken in one step" in emu(f"{explore}implicit")
    emu("emu new revision mine --from implicit")
    text = Path("mine/vtd.py").read_text()
    flush = text.partition("write_pte(cpu, domain, dfn, address, 0)\n")[2].partition("\n\n")[0]
    change(Path("mine/vtd.py"), flush, re.sub(r"^", "    ", flush, flags=re.MULTILINE))
    out = emu(f"{explore}./mine")
    assert "exhausted" in out
    assert "in one step" not in out
    assert "clean: proved" in out


def test_a_store_of_another_kind_is_not_put_down_to_the_call(emu: Emu) -> None:
    emu("emu new revision mine")
    change(Path("mine/vtd.py"), "write_pte(cpu, domain, dfn, address, 0)", "cpu.store64(address, 0)")
    assert "new: map_dma_unmap_dma: wrong result" in emu("emu check ./mine --against merged map_dma_unmap_dma --first")


def test_a_call_without_its_await_breaks(emu: Emu) -> None:
    emu("emu new revision mine")
    cleared = "write_pte(cpu, domain, dfn, address, 0)"
    change(Path("mine/vtd.py"), f"await {cleared}", cleared)
    out = emu("emu check ./mine --against merged map_dma_unmap_dma --first")
    assert out.startswith("\nbreaks: map_dma_unmap_dma: vtd.py:55: write_pte was called and not awaited")


def test_what_is_imported_calls_the_functions_of_its_own_file(emu: Emu) -> None:
    emu("emu new revision mine")
    imported = "from emu.hypervisor.revisions.merged.iommu import *\n"
    Path("mine/iommu.py").write_text(f"{imported}\n\nasync def iommu_unmap(cpu, domain, dfn, page_order):\n    1 / 0\n")
    out = emu("emu check ./mine --against merged unmap_fails_halfway")
    assert "\nnever entered: iommu.py: iommu_unmap" in out
    assert "breaks" not in out
