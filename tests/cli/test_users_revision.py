"""`emu run -p revision=FOLDER`: a user's own wrappers, whole and broken."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Emu = Callable[..., tuple[int, str, str]]

WRAPPERS = """\
from emu.hypervisor.revisions.v1.iommu import iommu_iotlb_flush, iommu_iotlb_flush_all, iommu_map


async def iommu_unmap(cpu, domain, dfn, page_order):
    result, _ = await domain.ops.unmap_page(cpu, domain, dfn)
    return result
"""
HOOKS = "from emu.hypervisor.revisions.v1.vtd import IntelIommuOps\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a revision whose unmap never flushes."""
    (tmp_path / "iommu.py").write_text(WRAPPERS, encoding="utf-8")
    (tmp_path / "vtd.py").write_text(HOOKS, encoding="utf-8")
    return tmp_path


def test_a_folder_is_run_in_place_of_a_bundled_revision(emu: Emu, folder: Path) -> None:
    command = ("run", "unmap_twice_before_flush", "--executions", "50", "-p")
    assert emu(*command, "revision=v1")[0] == 0
    assert emu(*command, f"revision={folder}")[0] == 1


def test_a_page_that_a_folders_unmap_does_not_flush_is_reported(emu: Emu, folder: Path) -> None:
    command = ("run", "map_dma_unmap_dma", "-p", f"revision={folder}", "--json")
    status, out, _ = emu(*command)
    (finding,) = json.loads(out)["findings"]
    assert (status, finding["kind"], finding["call"]) == (1, "stale", "unmap")


@pytest.mark.parametrize(
    ("iommu", "complaint"),
    [
        ("def (:\n", "/iommu.py:1: invalid syntax"),
        ("1 // 0\n", "/iommu.py, at iommu.py:1, raised ZeroDivisionError: integer division or modulo by zero"),
        (
            WRAPPERS.replace("async ", "").replace("await ", ""),
            "/iommu.py:4: iommu_unmap is not async: write `async def iommu_unmap`",
        ),
        (
            WRAPPERS.replace(", page_order)", ")", 1),
            "/iommu.py:4: iommu_unmap takes (cpu, domain, dfn); let it take (cpu, domain, dfn, page_order)",
        ),
        ("", "/iommu.py:1: there is no iommu_map: define or import it"),
    ],
)
def test_a_broken_folder_is_a_usage_error_in_one_line(emu: Emu, folder: Path, iommu: str, complaint: str) -> None:
    (folder / "iommu.py").write_text(iommu, encoding="utf-8")
    message = f"emu: {folder}{complaint}\n"
    assert emu("run", "remap_before_flush", "-p", f"revision={folder}") == (2, "", message)


def test_a_missing_file_is_a_usage_error_that_says_to_add_it(emu: Emu, folder: Path) -> None:
    (folder / "vtd.py").unlink()
    status, out, err = emu("run", "remap_before_flush", "-p", f"revision={folder}")
    assert (status, out) == (2, "")
    assert err.startswith(f"emu: a revision needs {folder}/vtd.py: add it")
    assert err.count("\n") == 1


def test_an_unknown_revision_is_a_usage_error_that_names_the_bundled_revisions(emu: Emu, tmp_path: Path) -> None:
    path = tmp_path / "nowhere"
    status, out, err = emu("run", "remap_before_flush", "-p", f"revision={path}")
    assert (status, out) == (2, "")
    assert err == (
        f"emu: there is no revision {str(path)!r}: use one of implicit, v1, merged, flush_on_error, or a folder "
        "with iommu.py and vtd.py\n"
    )
