"""What a function of a changed revision returns in vain is told with revision, file, function, and what to return."""

from pathlib import Path

import pytest

from emu.reports.findings import sentence
from emu.running.cells import Cell, Job, evaluate
from tests.revisions import copy_of

MODIFIED = "        return await dma_pte_clear_one(cpu, self.driver, domain, dfn)\n"
PAIR = "return (0 or a negative errno, FlushType.NONE, ADDED or MODIFIED)"
END_OF_UNMAP = "        result = result or error\n    return result\n\n\nasync def iommu_iotlb_flush("


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("vtd.py", MODIFIED, "        return OK\n", f"unmap_page (mine/vtd.py:65) returned 0: {PAIR}"),
        ("vtd.py", MODIFIED, "", f"unmap_page (mine/vtd.py:65) returned None: {PAIR}"),
        ("vtd.py", MODIFIED, "        return OK, 2\n", f"unmap_page (mine/vtd.py:65) returned (0, 2): {PAIR}"),
        (
            "vtd.py",
            MODIFIED,
            "        return 5, FlushType.MODIFIED\n",
            f"unmap_page (mine/vtd.py:65) returned (5, FlushType.MODIFIED): {PAIR}",
        ),
        (
            "vtd.py",
            "return await iommu_flush_iotlb(cpu, self.driver, domain, dfn,",
            "return iommu_flush_iotlb(cpu, self.driver, domain, dfn,",
            "iotlb_flush (mine/vtd.py:71) returned a call that it has not awaited: write `await` before it",
        ),
        (
            "iommu.py",
            END_OF_UNMAP,
            END_OF_UNMAP.replace("return result", "return True"),
            "iommu_legacy_unmap (mine/iommu.py:64) returned True: return 0 or a negative errno",
        ),
        (
            "iommu.py",
            "error, this_flush_type = await domain.ops.unmap_page(",
            "error, this_flush_type = domain.ops.unmap_page(",
            "cannot unpack non-iterable coroutine object: a call was not awaited, write `await` before it",
        ),
        (
            "vtd.py",
            "async with domain.mapping_lock.held(cpu, leaf_section(cpu, domain, dfn)):",
            "with domain.mapping_lock.held(cpu, leaf_section(cpu, domain, dfn)):",
            "does not support the context manager protocol: write `async with` instead of `with`",
        ),
    ],
)
def test_it_is_told_with_file_and_function(file: str, old: str, new: str, said: str, tmp_path: Path) -> None:
    mine = copy_of("merged", tmp_path / "mine", file, old, new)
    result = evaluate(Job(Cell("unmap_claims_nothing_was_there"), mine, 50_000, None, sentence))
    assert said in str(result.problem)
    assert not result.is_bug
