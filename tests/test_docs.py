"""What the documents show is what happens, and what they list is what there is.

Where one of these turns red, mend the page with it.
"""

import ast
import contextlib
import inspect
import io
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import emu as public
from emu.checks.kinds import FindingKind
from emu.cli import run_cli
from emu.cli.verbs import cli
from emu.cpus import Cpu, Signal, SpinLock
from emu.devices.device import Device
from emu.hypervisor.assignment import Assignment
from emu.hypervisor.domain import Domain
from emu.hypervisor.p2m_calls import P2mCalls
from emu.hypervisor.pages import Pages
from emu.hypervisor.revisions.executed import WATCHED
from emu.hypervisor.revisions.loader import BUNDLED, load_folder
from emu.hypervisor.tables import PageTables
from emu.machine.machine import Machine
from emu.platforms import PLATFORMS, VTD
from emu.reports.left_out import LEFT_OUT
from emu.running.check import Change
from emu.scenarios.expectation import parse_expectation
from emu.scenarios.parameters import machine_parameters, written
from tests.fenced import Emu, fenced, follow, is_shown, others, patch, piped, rows, section
from tests.revisions import change
from tests.test_layers import LAYERS, graph

ROOT = Path(__file__).parent.parent
PAGES = {path.name: path.read_text() for path in (*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md")))}
EACH_PAGE = pytest.mark.parametrize("name", PAGES)
PAGE = PAGES["port-your-patch.md"]
DRIVER = ROOT / "emu/hypervisor/vtd"
PACKAGES = sorted(path.parent for path in (ROOT / "emu").glob("*/**/__init__.py"))


@pytest.fixture
def emu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Emu]:
    """Run a line of a page in a folder of its own; return what it prints.

    The line may end with a pipe or `> FILE`, and begin with `printf 'INPUT' | `.
    """
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    status = 0

    def run(line: str) -> str:
        nonlocal status
        if line == "echo $?":
            return f"{status}\n"
        typed, _, after = line.partition(" | ")
        if typed.startswith("printf "):
            monkeypatch.setattr(sys, "stdin", io.StringIO(shlex.split(typed)[1].replace(r"\n", "\n")))
            line = after
        command, _, file = line.partition(" > ")
        command, _, into = command.partition(" | ")
        words = shlex.split(command)
        monkeypatch.setattr(sys, "argv", [*words, *(["-j", "1"] if words[1] == "check" else [])])
        forget()
        status = run_cli()
        out = capsys.readouterr().out
        if file:
            Path(file).write_text(out)
            return ""
        return piped(out, into) if into else out

    yield run
    forget()


def forget() -> None:
    """Forget what the process has loaded: each line of a page is a process of its own."""
    load_folder.cache_clear()
    WATCHED.clear()


def printed_by(program: str) -> str:
    """Run a program of a page, and return what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(program, "a page", "exec"), {})  # noqa: S102 - it is ours
    return out.getvalue()


def names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


@EACH_PAGE
def test_a_page_taken_from_top_to_bottom_prints_what_it_shows(name: str, emu: Emu) -> None:
    follow(PAGES[name], emu, printed_by)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a\nb\n", "a\nc\n"),
        ("a\n", "a\nb\n"),
        ("b\n", "a\nb\n"),
        ("a\n...\nc\n", "a\nb\n"),
        ("...\nb\n", "ab\n"),
        ("a.c\n", "abc\n"),
    ],
)
def test_what_is_not_printed_as_it_is_shown_is_noticed(shown: str, printed: str) -> None:
    assert not is_shown(shown, printed)
    with pytest.raises(AssertionError):
        follow(f"```console\n$ emu list\n{shown}```\n", lambda _: printed, printed_by)
    with pytest.raises(AssertionError):
        follow(f"```sh\nemu list\n```\n\n```\n{shown}```\n", lambda _: printed, printed_by)


@pytest.mark.parametrize(
    "shown", ["a\nb\nc\n", "...\nc\n", "a\n...\n", "a\n...\nc\n", "a\nb\n...\nc\n", "...\nb\n...\n"]
)
def test_dots_stand_for_lines_that_are_left_out(shown: str) -> None:
    assert is_shown(shown, "a\nb\nc\n")


@EACH_PAGE
def test_a_link_leads_to_a_file_and_a_heading_that_there_are(name: str) -> None:
    page, folder = PAGES[name], ROOT if (ROOT / name).exists() else ROOT / "docs"
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page):
        path, _, anchor = target.partition("#")
        text = (folder / path).read_text() if path else page
        headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
        anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert not anchor or anchor in anchors, target


@EACH_PAGE
def test_a_file_that_is_named_is_there_and_holds_what_is_named_with_it(name: str) -> None:
    page = PAGES[name]
    for path in re.findall(r"`((?:emu|tests|scenarios|docs)/[\w/]+(?:\.\w+)?)`", page):
        assert (ROOT / path).exists() or "NAME" in path, path
    for named, path in re.findall(r"`([\w.]+)` in\s+`(emu/[\w/]+\.py|scenarios/\w+\.py)`", page):
        source = (ROOT / path).read_text()
        for part in named.split("."):
            assert re.search(rf"\b(class|def) {part}\b|^{part} = ", source, re.MULTILINE), f"{named} in {path}"


def test_a_command_that_is_not_of_emu_is_one_that_lands_a_change() -> None:
    landing = (ROOT / ".ci/run").read_text() + PAGES["README.md"]
    assert re.search("^python3 -m venv .*pytest", PAGES["README.md"], re.MULTILINE)
    for page in PAGES.values():
        for language, text in fenced(page):
            for command in others(text) if language == "sh" else ():
                assert command in landing or os.access(ROOT / command, os.X_OK), command


def test_the_readme_is_a_page_of_at_most_150_lines() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 150


def test_what_a_proof_leaves_out_is_explained_item_by_item() -> None:
    explained = section(PAGES["what-proved-means.md"], "What is not modelled")
    assert re.findall(r"^\* \*(.*?)\*:", explained, re.MULTILINE) == list(LEFT_OUT)


def test_the_map_of_the_code_and_the_layers_are_those_that_there_are() -> None:
    there = {path.stem for path in (ROOT / "emu").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    layers = [[name for name in layer if name in there] for layer in LAYERS]
    shown = [re.findall(r"\w+", row[0]) for row in rows(PAGES["architecture.md"], "layer")]
    assert shown == layers
    mapped = re.findall(r"^(?:([\w/]+)(?:/|\.py) )(?:(\w+)\.py )?", inspect.getdoc(public) or "", re.MULTILINE)
    names = [name for pair in mapped for name in pair if name]
    assert sorted(names) == sorted(there - {"__init__", "__main__"})
    place = {name: number for number, name in enumerate([*names, "__main__"])}
    for module, known in graph().items():
        if module != "emu":
            assert all(place[one.split(".")[1]] <= place[module.split(".")[1]] for one in known), module


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_map_of_a_package_names_each_of_its_files(package: Path) -> None:
    doc = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    files = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    if package.name in BUNDLED:
        # As the map of the revisions says of each.
        assert files == {"amd.py", "iommu.py", "p2m.py", "smmu.py", "vtd.py", "x86.py"}
        return
    verbs = {f"{name}.py" for name in cli.commands} if package.name == "cli" else set()
    assert files - verbs == set(re.findall(r"\b\w+\.py\b", doc)) & files
    assert all(f"{path.parent.name}/" in doc for path in package.glob("*/__init__.py"))


def command_at(words: list[str]) -> click.Command:
    """Return a command by its words."""
    found: click.Command = cli
    for word in words:
        assert isinstance(found, click.Group)
        found = found.commands[word]
    return found


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_the_options_of_a_command_are_those_that_it_has(name: str) -> None:
    command = command_at([name, "revision"] if name == "new" else [name])
    options = {one.opts[-1] for one in command.params if isinstance(one, click.Option)}
    shown = [re.findall(r"`(-[\w-]+)", row[0]) for row in rows(section(PAGES["commands.md"], f"emu {name}"), "option")]
    assert sorted(one for (one,) in shown) == sorted(options)


def test_each_command_has_a_row_and_a_short_help_that_is_not_cut(emu: Emu) -> None:
    assert [row[0].strip("`") for row in rows(PAGES["commands.md"], "command")] == [
        f"emu {name}"
        for name in (
            "list",
            "show",
            "run",
            "explore",
            "check",
            "cost",
            "explain",
            "new",
            "replay",
            "log",
            "diff",
            "timeline",
            "export",
            "bench",
        )
    ]
    assert len(cli.commands) == 14
    for command in ("emu --help", "emu new --help"):
        assert "..." not in emu(command).partition("Commands:")[2]


def test_the_settings_of_a_check_are_named() -> None:
    said = section(PAGES["commands.md"], "emu check")
    assert all(f"`{setting}`" in said for platform in PLATFORMS.values() for setting in platform.tried)


SUBJECTS = {
    "m": Machine,
    "m.hypervisor": P2mCalls,
    "m.pages": Pages,
    "m.assignment": Assignment,
    "m.tables": PageTables,
    "cpu": Cpu,
    "domain": Domain,
    "domain.p2m_lock": SpinLock,
    "device": Device,
    "signal": Signal,
}
"""What the calls of a scenario belong to."""


def test_each_call_that_a_scenario_may_make_takes_what_is_shown() -> None:
    calls = re.findall(r"^\* `([\w.]+\([^`]*\))`", PAGES["scenarios.md"], re.MULTILINE)
    assert {call.partition("(")[0].rpartition(".")[0] for call in calls} == set(SUBJECTS)
    for call in calls:
        tree = ast.parse(call, mode="eval").body
        assert isinstance(tree, ast.Call)
        subject, _, name = ast.unparse(tree.func).rpartition(".")
        signature = inspect.signature(getattr(SUBJECTS[subject], name))
        signature.bind(None, *tree.args, **{one.arg or "": one.value for one in tree.keywords})


def test_a_call_of_the_page_is_bound_to_what_there_is() -> None:
    with pytest.raises(TypeError):
        inspect.signature(P2mCalls.flush).bind(None, "cpu", "domain", "dfn", "pages")


def test_the_parameters_of_the_machine_are_those_that_there_are() -> None:
    shown = [(row[0].strip("`"), row[1].strip("`")) for row in rows(PAGES["scenarios.md"], "parameter")]
    assert shown == [(one.name, written(one.default)) for one in machine_parameters(VTD)]


def test_the_verdicts_are_the_kinds_of_findings_that_somebody_can_declare() -> None:
    shown = [(row[0].strip("`"), row[1].strip("`"), row[2]) for row in rows(PAGES["scenarios.md"], "`--expect`")]
    kinds = [(one.value, one.name, one.meaning) for one in FindingKind if one is not FindingKind.ILLEGAL]
    assert sorted(shown) == sorted(kinds)
    assert all(parse_expectation(kind) == getattr(public, name) for kind, name, _ in shown)


def test_the_page_of_scenarios_names_all_that_they_import_from_emu() -> None:
    words = set(re.findall(r"\w+", PAGES["scenarios.md"]))
    assert set(public.__all__) - words == set()


def test_the_newest_version_of_the_changes_is_that_of_the_project() -> None:
    unreleased, newest, *_ = re.findall(r"^## (.*)", PAGES["CHANGELOG.md"], re.MULTILINE)
    assert unreleased == "Unreleased"
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == newest


def test_the_patch_of_the_page_is_the_bundled_one(emu: Emu) -> None:
    emu("emu new revision mine --from merged")
    for language, text in fenced(PAGE):
        if language == "diff":
            patch(text)
    command = "emu check ./mine --against flush_on_error failed_map_leaves_entries | tail -n 1"
    assert emu(command) == "./mine against flush_on_error: nothing is new\n"


def test_a_finding_is_one_of_the_words_that_are_explained() -> None:
    assert {row[0].strip("`") for row in rows(PAGE, "word")} == {change.value for change in Change}


def test_each_function_stands_where_it_is_said_to_stand() -> None:
    table = rows(PAGE, "in Xen")
    assert len(table) > 10
    for xen, ours, where in table:
        folder = DRIVER.parent / "revisions/merged" if where in {"`iommu.py`", "`vtd.py`"} else DRIVER
        source = (folder / where.strip("`")).read_text()
        for name in names(xen if ours == "the same" else ours):
            assert f"async def {name}(" in source


def test_so_does_each_function_of_amd() -> None:
    table = rows(PAGE, "in Xen's amd folder")
    assert len(table) > 10
    for xen, ours, where in table:
        folder = DRIVER.parent / ("revisions/merged" if where == "`amd.py`" else "amd")
        source = (folder / where.strip("`")).read_text()
        for name in names(xen if ours == "the same" else ours):
            assert f"def {name}(" in source


@pytest.mark.parametrize(
    ("file", "heading"), [("vtd.py", "in Xen's vtd/iommu.c"), ("amd.py", "in Xen's amd/iommu_map.c")]
)
def test_what_a_hook_is_made_of_stands_in_the_bundled_one(file: str, heading: str) -> None:
    hooks = (DRIVER.parent / "revisions/merged" / file).read_text()
    for _, ours in rows(PAGE, heading):
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
    assert out.startswith("\nbreaks: map_dma_unmap_dma: mine/vtd.py:33: write_pte was called and not awaited")


def test_what_is_imported_calls_the_functions_of_its_own_file(emu: Emu) -> None:
    emu("emu new revision mine")
    imported = "from emu.hypervisor.revisions.merged.iommu import *\n"
    Path("mine/iommu.py").write_text(f"{imported}\n\nasync def iommu_unmap(cpu, domain, dfn, page_order):\n    1 / 0\n")
    out = emu("emu check ./mine --against merged unmap_fails_halfway")
    assert "\nnever entered: iommu.py: iommu_unmap" in out
    assert "breaks" not in out
