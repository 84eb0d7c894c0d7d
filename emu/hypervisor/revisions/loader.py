"""Revisions of the wrappers: those that come with emu, and folders of the user's.

A revision is a folder with iommu.py (the wrappers) and vtd.py (the hooks of the VT-d driver). It says nothing about
checks. Where the loop and the callers' entry points are apart, as in Xen since the patch was merged, iommu.py has
`iommu_legacy_map` and `iommu_legacy_unmap`, and those are what callers call.
"""

import importlib.util
import inspect
import traceback
from collections.abc import Awaitable, Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

from emu.cpus import Cpu
from emu.errors import ScenarioError
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import FlushType, IommuOps, MapFlags
from emu.hypervisor.vtd.driver import VtdDriver
from emu.units import Dfn, Mfn

FOLDER = Path(__file__).parent
BUNDLED = ("implicit", "v1", "merged", "flush_on_error")
FILES = ("iommu.py", "vtd.py")

WRAPPERS = {
    "iommu_map": ("cpu", "domain", "dfn", "mfn", "page_order", "flags"),
    "iommu_unmap": ("cpu", "domain", "dfn", "page_order"),
    "iommu_iotlb_flush": ("cpu", "domain", "dfn", "page_count"),
    "iommu_iotlb_flush_all": ("cpu", "domain"),
}
LEGACY_WRAPPERS = {
    "iommu_legacy_map": WRAPPERS["iommu_map"],
    "iommu_legacy_unmap": WRAPPERS["iommu_unmap"],
    "iommu_iotlb_flush": (*WRAPPERS["iommu_iotlb_flush"], "flush_type"),
    "iommu_iotlb_flush_all": (*WRAPPERS["iommu_iotlb_flush_all"], "flush_type"),
}
HOOKS = ("map_page", "unmap_page", "iotlb_flush", "iotlb_flush_all")


@attrs.frozen
class Revision:
    """The callers' entry points of one revision, and its drivers."""

    name: str
    folder: Path
    map: Callable[[Cpu, Domain, Dfn, Mfn, int, MapFlags], Awaitable[int]]
    unmap: Callable[[Cpu, Domain, Dfn, int], Awaitable[int]]
    flush: Callable[[Cpu, Domain, Dfn, int], Awaitable[int]]
    flush_all: Callable[[Cpu, Domain], Awaitable[int]]
    vtd_ops: Callable[[VtdDriver], IommuOps]

    def make_ops(self, driver: VtdDriver) -> IommuOps:
        """Return the hooks for a machine's units.

        Raises:
            ScenarioError: if they cannot be made of a driver alone.
        """
        try:
            return self.vtd_ops(driver)
        except TypeError as error:
            raise ScenarioError(f"{self.folder / 'vtd.py'}: IntelIommuOps(driver) fails: {error}") from None


@lru_cache(maxsize=16)
def load_revision(name: str) -> Revision:
    """Return a revision by its name, or from a folder.

    Raises:
        ScenarioError: naming file and line of what is wrong with it.
    """
    folder = FOLDER / name if name in BUNDLED else Path(name)
    if not folder.is_dir():
        raise ScenarioError(
            f"there is no revision {name!r}: use one of {', '.join(BUNDLED)}, or a folder with {' and '.join(FILES)}"
        )
    wrappers, hooks = (load_file(folder / file) for file in FILES)
    return assemble(name, folder, wrappers, hooks)


def load_file(path: Path) -> ModuleType:
    """Run one file of a revision.

    Raises:
        ScenarioError: if it is not there, or fails.
    """
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}.{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ScenarioError(f"a revision needs {path}: add it, if only to import what it takes from a bundled one")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise ScenarioError(f"{error.filename or path}:{error.lineno or 1}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise ScenarioError(f"{frame.filename}:{frame.lineno}: {type(error).__name__}: {error}") from error
    return module


def assemble(name: str, folder: Path, wrappers: ModuleType, hooks: ModuleType) -> Revision:
    """Put a revision together, and see that it has all that it needs.

    Raises:
        ScenarioError: for a function that is missing, not async, or takes something else.
    """
    is_apart = hasattr(wrappers, "iommu_legacy_map") or hasattr(wrappers, "iommu_legacy_unmap")
    needed = LEGACY_WRAPPERS if is_apart else WRAPPERS
    found = {wanted: function(wrappers, wanted, takes) for wanted, takes in needed.items()}
    ops: Any = getattr(hooks, "IntelIommuOps", None)
    if not isinstance(ops, type):
        raise ScenarioError(f"{hooks.__file__}:1: there is no class IntelIommuOps: define or import it")
    make_ops: Callable[[VtdDriver], IommuOps] = ops
    for hook in HOOKS:
        takes = tuple(inspect.signature(getattr(IommuOps, hook)).parameters)
        function(ops, hook, takes, hooks.__file__)
    if not is_apart:
        entries = [found[wanted] for wanted in WRAPPERS]
        return Revision(name, folder, entries[0], entries[1], entries[2], entries[3], make_ops)

    async def flush(cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int) -> int:
        result: int = await found["iommu_iotlb_flush"](cpu, domain, dfn, page_count, FlushType.MODIFIED)
        return result

    async def flush_all(cpu: Cpu, domain: Domain) -> int:
        result: int = await found["iommu_iotlb_flush_all"](cpu, domain, FlushType.MODIFIED)
        return result

    legacy_map, legacy_unmap = found["iommu_legacy_map"], found["iommu_legacy_unmap"]
    return Revision(name, folder, legacy_map, legacy_unmap, flush, flush_all, make_ops)


def function(owner: Any, name: str, takes: tuple[str, ...], file: str | None = None) -> Callable[..., Awaitable[Any]]:
    """Return an async function of a module or a class that takes certain parameters.

    Raises:
        ScenarioError: if there is none.
    """
    found: Any = getattr(owner, name, None)
    if not inspect.isfunction(found):
        raise ScenarioError(f"{file or owner.__file__}:1: there is no {name}: define or import it")
    where = f"{found.__code__.co_filename}:{found.__code__.co_firstlineno}"
    has = tuple(inspect.signature(found).parameters)
    if has != takes:
        raise ScenarioError(f"{where}: {name} takes ({', '.join(has)}); let it take ({', '.join(takes)})")
    if not inspect.iscoroutinefunction(found):
        raise ScenarioError(f"{where}: {name} is not async: write `async def {name}`")
    checked: Callable[..., Awaitable[Any]] = found
    return checked
