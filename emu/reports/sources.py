"""The table of sources, as docs/sources.md has it: which function of Xen, or section of a manual, each function models.

It is read from the docstrings: `(Xen: FILE, FUNCTION)`, and `section N` of the manual that a package names.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import attrs

from emu.hypervisor.revisions.catalogue import bundled_revisions
from emu.reports.defects import table

ROOT = Path(__file__).parent.parent
SEED = "the seed patch"
BEFORE = "cbe21fd047"
"""The commit of Xen before the seed patch: shared code is as of it, but for the repairs that `Fix` names."""

XEN = re.compile(r"\(Xen: ([^()]*(?:\([^()]*\)[^()]*)*)\)")
SECTION = re.compile(r"[Ss]ections? (\d[\d.]*(?:(?:,| and| to) \d[\d.]*)*)")
COMMIT = re.compile(r"\b(?:[0-9a-f]{10})\b")
ELSEWHERE = ("arch/", "common/", "include/")
"""Where a file of Xen is that is not in drivers/passthrough."""

HEAD = """\
# Sources

Which function of Xen each function of the hypervisor models, and which section of a manual each part of the hardware.
Files of Xen are below `xen/`. A revision's functions are as of its commit; `flush_on_error` takes the hooks of
`merged`. What all revisions share is as of cbe21fd047, and names the commits that changed it; `emu/hypervisor/fixes.py`
has them all.

This page is generated from the docstrings: `python -m tests.test_sources` renews it.
"""

HEADERS = (
    ("include/xen/iommu.h", "enum iommu_flush_type", "emu/hypervisor/ops.py: FlushType"),
    ("include/xen/iommu.h", "struct iommu_ops", "emu/hypervisor/ops.py: IommuOps, WrapperOps"),
    ("include/xen/iommu.h", "iommu_map, iommu_unmap, iommu_iotlb_flush", "iommu.py of each revision"),
    ("include/xen/iommu.h", "DECLARE_PER_CPU(iommu_dont_flush_iotlb)", "emu/hypervisor/ops.py: iommu_dont_flush_iotlb"),
    ("include/asm-x86/hvm/svm/amd-iommu-proto.h", "prototypes of the hooks", "amd.py of each revision"),
    ("drivers/passthrough/arm/smmu.c", "hooks of the SMMU", "not modelled yet"),
)
"""The hunks of the patch that are in headers, or not of x86."""


@attrs.frozen
class Source:
    """A function or class, and what it models.

    Attributes:
        file: relative to the package.
        says: its docstring.
    """

    file: str
    name: str
    says: str

    @property
    def of_xen(self) -> list[str]:
        """What it models of Xen, with the files in full."""
        return [in_full(" ".join(found.split())) for found in XEN.findall(self.says)]

    @property
    def sections(self) -> list[str]:
        """The sections of the manual that it names."""
        return list(dict.fromkeys(one.rstrip(".") for one in SECTION.findall(self.says)))

    @property
    def commits(self) -> list[str]:
        """The commits that it names."""
        return list(dict.fromkeys(COMMIT.findall(self.says)))


def in_full(reference: str) -> str:
    """Return a reference to Xen with each file below `xen/`."""
    parts = [part.strip() for part in reference.split(";")]
    return "; ".join(part if part.startswith(ELSEWHERE) else f"drivers/passthrough/{part}" for part in parts)


def sources(folder: str) -> Iterator[Source]:
    """Yield the functions and classes below a folder of the package that have a docstring, in order."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        file = path.relative_to(ROOT).as_posix()
        yield from within(tree, file, "")


def within(tree: ast.AST, file: str, outer: str) -> Iterator[Source]:
    """Yield the functions and classes in a part of a file."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{outer}{node.name}"
            yield Source(file, name, ast.get_docstring(node) or "")
            if isinstance(node, ast.ClassDef):
                yield from within(node, file, f"{name}.")


def page() -> str:
    """Return the page."""
    return "\n".join((HEAD, *of_revisions(), *of_shared(), *of_headers(), *of_hardware()))


def of_revisions() -> Iterator[str]:
    """Yield the tables of the revisions' functions."""
    for revision in bundled_revisions():
        found = [one for one in sources(f"hypervisor/revisions/{revision.name}") if one.of_xen]
        yield f"## {revision.name}: {revision.commit or SEED}\n"
        yield from table(
            [
                ("file", "function", "Xen"),
                *((Path(one.file).name, f"`{one.name}`", "; ".join(one.of_xen)) for one in found),
            ]
        )
        yield ""


def of_shared() -> Iterator[str]:
    """Yield the table of the code that all revisions share."""
    found = [one for one in sources("hypervisor") if one.of_xen and "/revisions/" not in one.file]
    rows = [
        (one.file.removeprefix("hypervisor/"), f"`{one.name}`", "; ".join(one.of_xen), ", ".join(one.commits))
        for one in found
    ]
    yield "## What the revisions share\n"
    yield from table([("file", "function", "Xen", "commits that it names"), *rows])
    yield ""


def of_headers() -> Iterator[str]:
    """Yield the table of the patch's hunks that are not functions of x86."""
    yield "## Hunks of the patch in headers\n"
    yield from table([("file", "hunk", "in emu"), *HEADERS])
    yield ""


def of_hardware() -> Iterator[str]:
    """Yield the tables of the hardware, one for each manual."""
    for folder, manual in (
        ("iommus/vtd", "Intel Virtualization Technology for Directed I/O, revision 5.10"),
        ("iommus/amd", "AMD I/O Virtualization Technology (IOMMU) Specification"),
    ):
        rows = [
            (Path(one.file).name, f"`{one.name}`", ", ".join(one.sections)) for one in sources(folder) if one.sections
        ]
        yield f"## {manual}\n"
        yield from table([("file", "function", "section"), *rows])
        yield ""
