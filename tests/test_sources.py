"""Each function of a revision says which function of Xen it models, and docs/sources.md lists them.

`python -m tests.test_sources` renews the page.
"""

import re
from pathlib import Path

import pytest

from emu.hypervisor.revisions.loader import BUNDLED
from emu.reports.sources import HEADERS, Source, page, sources

PAGE = Path(__file__).parent.parent / "docs/sources.md"

OF_REVISIONS = [one for name in BUNDLED for one in sources(f"hypervisor/revisions/{name}")]


def test_the_page_is_what_the_docstrings_say() -> None:
    assert PAGE.read_text() == page()


@pytest.mark.parametrize("source", OF_REVISIONS, ids=lambda one: f"{one.file}: {one.name}")
def test_a_function_of_a_revision_names_its_function_of_xen(source: Source) -> None:
    assert source.of_xen


def test_each_reference_is_a_file_and_what_is_in_it() -> None:
    named = {part for one in sources("hypervisor") for found in one.of_xen for part in found.split("; ")}
    assert [part for part in sorted(named) if not re.match(r"[\w/-]+\.[ch]($|, )", part)] == []


def test_there_are_functions_of_each_file() -> None:
    files = {"amd.py", "iommu.py", "p2m.py", "smmu.py", "vtd.py", "x86.py"}
    assert {Path(one.file).name for one in OF_REVISIONS} == files
    assert len(OF_REVISIONS) > 60


def test_a_reference_is_completed_and_its_commits_are_found() -> None:
    source = Source(
        "x.py", "f", "Do it (Xen: vtd/iommu.c,\nf and g; arch/x86/mm.c, h). Until 0123456789 (section 6.5.2)."
    )
    assert source.of_xen == ["drivers/passthrough/vtd/iommu.c, f and g; arch/x86/mm.c, h"]
    assert (source.commits, source.sections) == (["0123456789"], ["6.5.2"])


def test_the_hunks_in_headers_have_their_rows() -> None:
    assert {file for file, _, _ in HEADERS} >= {"include/xen/iommu.h", "include/asm-x86/hvm/svm/amd-iommu-proto.h"}
    assert all(f"| {hunk}" in page() for _, hunk, _ in HEADERS)


if __name__ == "__main__":
    PAGE.write_text(page())
