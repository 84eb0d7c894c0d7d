"""Which module may know which, and what may be called an async function."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import emu

LAYERS = (
    ("units", "errors", "bundled", "files"),
    ("engine",),
    ("memory",),
    ("cpus",),
    ("iommus",),
    ("devices",),
    ("hypervisor",),
    ("platforms",),
    ("checks",),
    ("machine", "scenarios"),
    ("analysis",),
    ("running", "bench"),
    ("reports",),
    ("testing", "cli", "__main__"),
)
"""From the lowest to the highest; a module knows those of its own layer and of lower ones."""

RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names}

ROOT = Path(emu.__file__).parent

ASYNC_BY_PROTOCOL = ("__aenter__", "__aexit__")
"""Methods that Python awaits: `async with` calls them whether or not they have anything to await."""


def module_name(path: Path) -> str:
    """Return the dotted name of a module of emu."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imports(module: str, tree: ast.Module, *, is_package: bool = False) -> Iterator[str]:
    """Yield the modules of emu that a module imports, wherever in it and under whatever condition."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "emu")
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".") if node.module else []
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                base = package[: len(package) - node.level + 1] + base
            if base[0] == "emu":
                for alias in node.names:
                    full = ".".join([*base, alias.name])
                    yield full if full in MODULES else ".".join(base)


def rank(module: str) -> int:
    """Return the layer of a module of emu; the package itself, by which authors import, lies above all of them."""
    parts = module.split(".")
    return RANKS[parts[1]] if len(parts) > 1 else len(LAYERS)


def violations(module: str, tree: ast.Module, *, is_package: bool = False) -> list[str]:
    """Return the imports of a module that lead upwards."""
    return [imported for imported in imports(module, tree, is_package=is_package) if rank(imported) > rank(module)]


def own_nodes(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """Yield the nodes of a function itself, and not those of one within it."""
    inside: list[ast.AST] = list(function.body)
    while inside:
        node = inside.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            inside.extend(ast.iter_child_nodes(node))


def awaits(function: ast.AsyncFunctionDef) -> bool:
    """Whether a function itself, and not one within it, awaits anything."""
    return any(
        isinstance(node, ast.Await | ast.AsyncWith | ast.AsyncFor)
        or (isinstance(node, ast.comprehension) and bool(node.is_async))
        for node in own_nodes(function)
    )


def is_stub(function: ast.AsyncFunctionDef) -> bool:
    """Whether a function has nothing but a docstring or an ellipsis."""
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in function.body)


def protocol_stubs(tree: ast.Module) -> set[ast.AST]:
    """Return the methods that protocols declare."""
    return {
        method
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in node.bases)
        for method in node.body
        if isinstance(method, ast.AsyncFunctionDef) and is_stub(method)
    }


def needlessly_async(tree: ast.Module) -> list[str]:
    """Return the async functions that await nothing and need not be async."""
    stubs = protocol_stubs(tree)
    return [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncFunctionDef)
        and not (awaits(node) or node in stubs or node.name in ASYNC_BY_PROTOCOL)
    ]


def test_there_are_modules_to_look_at() -> None:
    assert {"emu", "emu.units", "emu.engine.hosts.trio", "emu.machine.machine"} <= set(MODULES)


@pytest.mark.parametrize("module", [name for name in MODULES if name != "emu"])
def test_every_module_lies_in_a_known_layer(module: str) -> None:
    assert module.split(".")[1] in RANKS


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_its_own_layer_and_lower_ones(module: str) -> None:
    assert violations(module, tree_of(module), is_package=MODULES[module].name == "__init__.py") == []


VENDORS = {"vtd", "amd", "smmu"}
OF_SMMU = {"p2m", "smmuv3"}
"""Files of a revision that know the SMMU by another name than its folder's."""


def vendors_known(module: str, tree: ast.Module) -> list[str]:
    """Return the imports by which a module knows a vendor that is not its own."""
    own = set(module.split("."))
    if own & OF_SMMU:
        own.add("smmu")
    known = imports(module, tree, is_package=MODULES[module].name == "__init__.py")
    return [name for name in known if (VENDORS - own) & set(name.split("."))]


@pytest.mark.parametrize("module", [name for name in MODULES if name != "emu.platforms"])
def test_only_a_vendors_own_modules_and_platforms_know_it(module: str) -> None:
    assert vendors_known(module, tree_of(module)) == []


def test_a_vendor_that_common_code_knows_is_noticed() -> None:
    source = ast.parse("from emu.iommus.vtd.unit import VtdUnit\nfrom emu.hypervisor import vtd")
    assert len(vendors_known("emu.devices.device", source)) == 2
    assert vendors_known("emu.hypervisor.vtd.driver", source) == []
    assert vendors_known("emu.platforms", tree_of("emu.platforms"))


def graph() -> dict[str, set[str]]:
    """Return the modules that each module imports, under whatever condition."""
    return {
        module: set(imports(module, tree_of(module), is_package=MODULES[module].name == "__init__.py"))
        for module in MODULES
    }


def circle(known: dict[str, set[str]]) -> list[str]:
    """Return modules that import one another in a circle; none where there is no circle."""
    try:
        TopologicalSorter(known).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert circle(graph()) == []


def test_a_circle_is_noticed_though_it_is_for_type_checkers_only() -> None:
    known = graph()
    assert circle({**known, "emu.units": {*known["emu.units"], "emu.iommus.ledger"}})
    typed = ast.parse("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from emu.iommus.ledger import Ledger")
    assert set(imports("emu.units", typed)) == {"emu.iommus.ledger"}


def test_emu_imports_nothing_before_a_name_is_used_and_knows_where_each_is() -> None:
    code = "import sys, emu; print(sorted(name for name in sys.modules if name.startswith('emu.')))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout == b"[]\n"
    typed = {
        (node.module, alias.name)
        for node in ast.walk(tree_of("emu"))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("emu.")
        for alias in node.names
    }
    assert typed == {(module, name) for name, module in emu.MODULES.items()}
    assert sorted(emu.__all__) == sorted(emu.MODULES)
    assert all(getattr(emu, name) is not None for name in emu.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Machines'"):
        emu.Machines  # noqa: B018 - looking the name up is what fails


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("emu.engine")])
def test_the_engine_knows_nothing_of_emu_but_itself_and_the_errors(module: str) -> None:
    known = set(imports(module, tree_of(module)))
    assert {name for name in known if not name.startswith("emu.engine")} <= {"emu.errors"}


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("emu.iommus")])
def test_iommus_know_nothing_of_the_hypervisor(module: str) -> None:
    assert not [name for name in imports(module, tree_of(module)) if name.startswith("emu.hypervisor")]


@pytest.mark.parametrize("module", MODULES)
def test_every_async_function_awaits_something(module: str) -> None:
    assert needlessly_async(tree_of(module)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import emu",
        "import emu.machine",
        "import emu.hypervisor.calls as calls",
        "from emu import cli",
        "from emu.hypervisor import Domain",
        "from ..hypervisor import Domain",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from emu.machine.machine import Machine",
        "def late():\n    from emu.checks import findings",
    ],
)
def test_an_import_that_leads_upwards_is_noticed(source: str) -> None:
    assert violations("emu.iommus.iotlb", ast.parse(source))


@pytest.mark.parametrize(
    "source",
    [
        "from emu.iommus.ledger import Ledger",
        "from . import ledger",
        "from ..cpus import Cpu",
        "import os",
    ],
)
def test_an_import_that_leads_sideways_or_down_is_fine(source: str) -> None:
    assert violations("emu.iommus.iotlb", ast.parse(source)) == []


@pytest.mark.parametrize(
    "source",
    [
        "async def f(): return 1",
        "async def f():\n    async def g(): await h()\n    return g",
        "class C:\n    async def f(self): return None",
        "class C:\n    async def f(self): ...",
        "class P(Protocol):\n    async def f(self): return 1",
    ],
)
def test_a_needlessly_async_function_is_noticed(source: str) -> None:
    assert needlessly_async(ast.parse(source)) == ["f"]


@pytest.mark.parametrize(
    "source",
    [
        "async def f(): await g()",
        "async def f():\n    if x:\n        async with y: pass",
        "async def f(): return [x async for x in y]",
        "class P(Protocol):\n    async def f(self): ...",
        "class P(Protocol[T]):\n    async def f(self):\n        'Do it.'",
        "class C:\n    async def __aenter__(self): return self",
    ],
)
def test_an_async_function_that_has_to_be_one_is_fine(source: str) -> None:
    assert needlessly_async(ast.parse(source)) == []
