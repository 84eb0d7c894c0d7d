"""Revisions: how the bundled ones differ, what a folder of the user's can do, and how a broken one is refused."""

import ast
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from emu.checks.findings import Finding, FindingKind, OldPath
from emu.cpus import Cpu
from emu.errors import ScenarioError
from emu.hypervisor.ops import FlushType, iommu_dont_flush_iotlb
from emu.hypervisor.revisions.loader import BUNDLED, FOLDER
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.platforms import VTD
from emu.running.run import Run
from emu.running.verdict import Verdict
from emu.scenarios.library import find
from emu.units import Dfn

Execute = Callable[..., list[Finding]]
Function = ast.FunctionDef | ast.AsyncFunctionDef

G = Dfn(0x50)

FILES = ("iommu.py", "vtd.py", "amd.py", "x86.py")
BUNDLED_FILES = [(revision, file) for revision in BUNDLED for file in FILES]

CHANGED = {
    "iommu.py": {"iommu_map", "iommu_unmap", "iommu_iotlb_flush", "iommu_hwdom_init"},
    "vtd.py": {"map_page", "dma_pte_clear_one", "iotlb_flush"},
    "amd.py": {
        "set_iommu_pde_present",
        "set_iommu_pte_present",
        "map_page",
        "unmap_page",
        "iotlb_flush",
        "amd_iommu_reserve_domain_unity_map",
    },
    "x86.py": {"arch_iommu_hwdom_init", "arch_iommu_populate_page_table"},
}
"""What the seed patch touches."""


def functions(revision: str, file: str) -> dict[str, str]:
    """Return the functions of a file in order, as what they do: without docstrings."""
    tree = ast.parse((FOLDER / revision / file).read_text(encoding="utf-8"))
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, Function):
            if ast.get_docstring(node) is not None:
                node.body = node.body[1:]
            found[node.name] = ast.dump(node)
    return found


@pytest.mark.parametrize("file", FILES)
def test_implicit_and_v1_define_the_same_functions_in_the_same_order(file: str) -> None:
    before, after = functions("implicit", file), functions("v1", file)
    assert list(before) == list(after)
    assert set(before) >= CHANGED[file]


@pytest.mark.parametrize("file", FILES)
def test_implicit_and_v1_differ_in_what_the_patch_touches_and_nowhere_else(file: str) -> None:
    before, after = functions("implicit", file), functions("v1", file)
    assert {name for name in before if before[name] != after[name]} == CHANGED[file]


@pytest.mark.parametrize(("file", "name"), [("iommu.py", "iommu_iotlb_flush_all"), ("vtd.py", "iotlb_flush_all")])
def test_a_flush_of_everything_is_the_same_in_implicit_and_v1(file: str, name: str) -> None:
    assert functions("implicit", file)[name] == functions("v1", file)[name]


@pytest.mark.parametrize(("revision", "file"), BUNDLED_FILES)
def test_a_bundled_revision_imports_nothing_of_the_checks(revision: str, file: str) -> None:
    tree = ast.parse((FOLDER / revision / file).read_text(encoding="utf-8"))
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert any(name.startswith("emu.") for name in modules)
    assert not [name for name in modules if name.startswith(("emu.checks", "emu.reports", "emu.hypervisor.records"))]


@pytest.mark.parametrize(("revision", "file"), BUNDLED_FILES)
def test_a_bundled_revision_names_nothing_that_checks_live_on(revision: str, file: str) -> None:
    source = (FOLDER / revision / file).read_text(encoding="utf-8")
    assert re.findall(r"record|judge|finding|open_call|deferred_calls|note\(|poke\(", source, re.IGNORECASE) == []


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_revision_is_known_by_its_name_and_by_its_folder(name: str) -> None:
    assert VTD.load_revision(name).folder == VTD.load_revision(str(FOLDER / name)).folder


@pytest.mark.parametrize(
    ("hooks", "flush_type"), [("implicit", FlushType.NONE), ("v1", FlushType.NONE), ("merged", FlushType.MODIFIED)]
)
def test_only_the_hooks_as_merged_report_what_an_unmap_requires(
    execute: Execute, hooks: str, flush_type: FlushType
) -> None:
    machine = Machine(Description(revision=hooks))
    domain = machine.domain(1, devices=("00:1f.0",))
    machine.premap(domain, G, machine.allocate())
    results: list[tuple[int, FlushType]] = []

    @machine.cpu(0)
    async def caller(cpu: Cpu) -> None:
        results.append(await machine.hooks.unmap_page(cpu, domain, G))

    execute(machine)
    assert results == [(0, flush_type)]


V1_WRAPPERS = """\
from emu.hypervisor.revisions.v1.iommu import iommu_iotlb_flush, iommu_iotlb_flush_all, iommu_map, iommu_unmap
"""
V1_HOOKS = "from emu.hypervisor.revisions.v1.vtd import IntelIommuOps\n"

UNMAP_WITHOUT_FLUSH = """\
from emu import OK, offset, page_count
from emu.hypervisor.revisions.v1.iommu import iommu_iotlb_flush, iommu_iotlb_flush_all, iommu_map


async def iommu_unmap(cpu, domain, dfn, page_order):
    result = OK
    for i in range(page_count(page_order)):
        error, _ = await domain.ops.unmap_page(cpu, domain, offset(dfn, i))
        result = result or error
    return result
"""

FLUSHING_NOTHING = (
    UNMAP_WITHOUT_FLUSH
    + """\


async def iommu_map(cpu, domain, dfn, mfn, page_order, flags):
    result, _ = await domain.ops.map_page(cpu, domain, dfn, mfn, flags)
    return result


async def iommu_iotlb_flush(cpu, domain, dfn, page_count):
    return OK


async def iommu_iotlb_flush_all(cpu, domain):
    return OK
"""
)


def folder_of(tmp_path: Path, iommu: str = V1_WRAPPERS, vtd: str = V1_HOOKS) -> str:
    """Write a user's revision and return what the user calls it by."""
    for name, text in (("iommu.py", iommu), ("vtd.py", vtd)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    return str(tmp_path)


def verdict_on(revision: str) -> Verdict:
    run = Run(find("unmap_twice_before_flush").bind({"revision": revision}), "random", 0, 50)
    run.on("direct")
    return run.verdict


@pytest.mark.parametrize(
    ("wrappers", "verdict"), [(V1_WRAPPERS, Verdict.CONSISTENT), (UNMAP_WITHOUT_FLUSH, Verdict.FOUND)]
)
def test_a_folder_of_the_users_takes_the_place_of_a_bundled_revision(
    tmp_path: Path, wrappers: str, verdict: Verdict
) -> None:
    assert verdict_on(folder_of(tmp_path, wrappers)) is verdict


def test_a_folder_may_have_the_entry_points_as_merged(tmp_path: Path) -> None:
    wrappers = (
        "from emu.hypervisor.revisions.merged.iommu import (\n"
        "    iommu_iotlb_flush, iommu_iotlb_flush_all, iommu_legacy_map, iommu_legacy_unmap\n)\n"
    )
    revision = folder_of(tmp_path, wrappers, "from emu.hypervisor.revisions.merged.vtd import IntelIommuOps\n")
    run = Run(find("map_dma_unmap_dma").bind({"revision": revision}), "random", 0, 20)
    run.on("direct")
    assert (run.verdict, run.with_findings) == (Verdict.CONSISTENT, 0)


def broken_promises(execute: Execute, revision: str) -> list[str]:
    """Replace a page, unmap another, and replace a third with its flush put off; return what was broken."""
    machine = Machine(Description(revision=revision))
    domain = machine.domain(1, devices=("00:1f.0",))
    for page in range(3):
        machine.premap(domain, Dfn(G + page), machine.allocate())
    first, third = machine.allocate(), machine.allocate()

    @machine.cpu(0)
    async def caller(cpu: Cpu) -> None:
        await machine.hypervisor.map(cpu, domain, G, first)
        await machine.hypervisor.unmap(cpu, domain, Dfn(G + 1))
        async with cpu.hypercall("batch"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            await machine.hypervisor.map(cpu, domain, Dfn(G + 2), third)
            await cpu.write(iommu_dont_flush_iotlb, False)
            await machine.hypervisor.flush(cpu, domain, Dfn(G + 2), pages=1)

    return [finding.promise for finding in execute(machine) if isinstance(finding, OldPath)]


@pytest.mark.parametrize(
    ("wrappers", "broken"), [(V1_WRAPPERS, []), (FLUSHING_NOTHING, ["mapped", "unmapped", "flushed", "owed"])]
)
def test_every_promise_is_judged_whatever_a_folder_has_in_it(
    execute: Execute, tmp_path: Path, wrappers: str, broken: list[str]
) -> None:
    assert broken_promises(execute, folder_of(tmp_path, wrappers)) == broken


HIDING_A_FAILURE = """\
from emu.hypervisor.revisions.v1.iommu import iommu_iotlb_flush, iommu_iotlb_flush_all, iommu_unmap


async def iommu_map(cpu, domain, dfn, mfn, page_order, flags):
    await domain.ops.map_page(cpu, domain, dfn, mfn, flags)
    return 0
"""


@pytest.mark.parametrize(("fails", "kinds"), [(False, []), (True, [FindingKind.LOST_ERROR])])
def test_a_failure_that_a_folder_hides_is_found(
    execute: Execute, tmp_path: Path, fails: bool, kinds: list[FindingKind]
) -> None:
    machine = Machine(Description(revision=folder_of(tmp_path, HIDING_A_FAILURE)))
    domain, frame = machine.domain(1, devices=("00:1f.0",)), machine.allocate()
    if fails:
        machine.fail_hook("map_page", G, -12)

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await machine.hypervisor.map(cpu, domain, G, frame)

    assert [finding.kind for finding in execute(machine)] == kinds


UNMAP_OF_V1 = "from emu.hypervisor.revisions.v1.iommu import iommu_iotlb_flush, iommu_iotlb_flush_all, iommu_map\n"
HOOKS_OF_V1 = "from emu.hypervisor.revisions.v1.vtd import IntelIommuOps as V1\n\n\nclass IntelIommuOps(V1):\n"

BROKEN: dict[str, tuple[Mapping[str, str], str]] = {
    "no wrappers": ({"vtd.py": V1_HOOKS}, r"a revision needs {folder}/iommu\.py: add it"),
    "no hooks": ({"iommu.py": V1_WRAPPERS}, r"a revision needs {folder}/vtd\.py: add it"),
    "a missing wrapper": (
        {"iommu.py": UNMAP_OF_V1, "vtd.py": V1_HOOKS},
        r"{folder}/iommu\.py:1: there is no iommu_unmap: define or import it",
    ),
    "a wrapper that is no function": (
        {"iommu.py": V1_WRAPPERS + "iommu_unmap = 0\n", "vtd.py": V1_HOOKS},
        r"{folder}/iommu\.py:1: there is no iommu_unmap: define or import it",
    ),
    "a missing class": (
        {"iommu.py": V1_WRAPPERS, "vtd.py": ""},
        r"{folder}/vtd\.py:1: there is no class IntelIommuOps: define or import it",
    ),
    "a missing hook": (
        {"iommu.py": V1_WRAPPERS, "vtd.py": "class IntelIommuOps: pass\n"},
        r"{folder}/vtd\.py:1: there is no map_page: define or import it",
    ),
    "only one legacy entry point": (
        {"iommu.py": V1_WRAPPERS + "\n\nasync def iommu_legacy_map(cpu): pass\n", "vtd.py": V1_HOOKS},
        r"{folder}/iommu\.py:4: iommu_legacy_map takes \(cpu\); let it take \(cpu, domain, dfn, mfn, ",
    ),
    "a syntax error": (
        {"iommu.py": V1_WRAPPERS + "\ndef (:\n", "vtd.py": V1_HOOKS},
        r"{folder}/iommu\.py:3: invalid syntax",
    ),
    "a wrapper with a wrong signature": (
        {"iommu.py": UNMAP_OF_V1 + "\n\nasync def iommu_unmap(cpu, domain, dfn): pass\n", "vtd.py": V1_HOOKS},
        r"{folder}/iommu\.py:4: iommu_unmap takes \(cpu, domain, dfn\); let it take \(cpu, domain, dfn, page_order\)",
    ),
    "a hook with a wrong signature": (
        {"iommu.py": V1_WRAPPERS, "vtd.py": HOOKS_OF_V1 + "    async def unmap_page(self, cpu): pass\n"},
        r"{folder}/vtd\.py:5: unmap_page takes \(self, cpu\); let it take \(self, cpu, domain, dfn\)",
    ),
    "a wrapper that is not async": (
        {"iommu.py": UNMAP_OF_V1 + "\n\ndef iommu_unmap(cpu, domain, dfn, page_order): pass\n", "vtd.py": V1_HOOKS},
        r"{folder}/iommu\.py:4: iommu_unmap is not async: write `async def iommu_unmap`",
    ),
    "a hook that is not async": (
        {"iommu.py": V1_WRAPPERS, "vtd.py": HOOKS_OF_V1 + "    def unmap_page(self, cpu, domain, dfn): pass\n"},
        r"{folder}/vtd\.py:5: unmap_page is not async: write `async def unmap_page`",
    ),
    "an exception": (
        {"iommu.py": V1_WRAPPERS + "\nhalf = 1 // 0\n", "vtd.py": V1_HOOKS},
        r"{folder}/iommu\.py, at iommu\.py:3, raised ZeroDivisionError: integer division or modulo by zero",
    ),
    "an exception in what it calls": (
        {"iommu.py": "def half(n):\n    return n // 0\n\n\nhalf(1)\n", "vtd.py": V1_HOOKS},
        r"{folder}/iommu\.py, at iommu\.py:2, raised ZeroDivisionError: integer division or modulo by zero",
    ),
    "a module that is not there": (
        {"iommu.py": V1_WRAPPERS, "vtd.py": "\nimport emu.hypervisor.v0\n"},
        r"{folder}/vtd\.py, at vtd\.py:2, raised ModuleNotFoundError: No module named 'emu\.hypervisor\.v0'",
    ),
    "a name that is not there": (
        {"iommu.py": "from emu.hypervisor.revisions.v1.iommu import iommu_remap\n", "vtd.py": V1_HOOKS},
        r"{folder}/iommu\.py, at iommu\.py:1, raised ImportError: cannot import name 'iommu_remap'",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_revision_is_refused_in_one_sentence_with_file_and_line(tmp_path: Path, what: str) -> None:
    files, complaint = BROKEN[what]
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        VTD.load_revision(str(tmp_path))
    assert re.match(complaint.replace("{folder}", re.escape(str(tmp_path))), str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("is_file", [False, True])
def test_a_path_that_is_no_folder_is_refused_with_the_revisions_that_exist(tmp_path: Path, is_file: bool) -> None:
    path = tmp_path / "v2"
    if is_file:
        path.write_text(V1_WRAPPERS, encoding="utf-8")
    known = r"use one of implicit, v1, merged, flush_on_error, or a folder with iommu\.py and vtd\.py"
    with pytest.raises(ScenarioError, match=known):
        VTD.load_revision(str(path))
