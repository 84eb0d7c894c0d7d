"""Loads revisions of the wrappers: those that come with emu, and folders of the user's.

A revision is a folder with iommu.py (the wrappers), perhaps x86.py (the glue of that architecture), and for each vendor
a file of the driver's hooks, such as vtd.py; the hooks of Arm need p2m.py, too. It says nothing about checks. In Xen
since the patch was merged, the callers' entry points are separate from the loops: then iommu.py has `iommu_legacy_map`
and `iommu_legacy_unmap`, and callers call these.
"""

import importlib.util
import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

from emu.cpus import Cpu
from emu.engine.foreign import run_foreign
from emu.errors import ScenarioError, did_you_mean, said_by
from emu.hypervisor.domain import Domain
from emu.hypervisor.driver import Driver
from emu.hypervisor.ops import FlushType, IommuOps, MapFlags, WrapperOps
from emu.hypervisor.revisions.executed import compiled, is_watched
from emu.units import Dfn, Mfn

FOLDER = Path(__file__).parent
BUNDLED = ("implicit", "v1", "merged", "flush_on_error")
"""The states of the wrappers before, in and after the seed patch, which come with emu. They run on the machines of that
time, and are compared with one another."""

LATER = ("today",)
"""The other revisions that come with emu: of machines that are younger than the seed patch."""

ALL_BUNDLED = (*BUNDLED, *LATER)
WRAPPERS_FILE = "iommu.py"

OURS = "emu:"
"""The prefix that names emu's own revision where a folder of the user's has the same name."""

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
X86_FILE, P2M_FILE = "x86.py", "p2m.py"
OTHERS = {
    "iommu_hwdom_init": ("cpu", "domain"),
    "arch_iommu_hwdom_init": ("cpu", "domain"),
    "arch_iommu_populate_page_table": ("cpu", "domain"),
    "amd_iommu_reserve_domain_unity_map": ("cpu", "domain", "dfn", "page_count", "flags"),
    "guest_physmap_add_entry": ("cpu", "domain", "gfn", "mfn", "page_order", "p2m_type"),
    "guest_physmap_remove_page": ("cpu", "domain", "gfn", "mfn", "page_order"),
}
"""Functions that a revision may have besides, in any of its files, with their parameters."""

HOOKS = ("map_page", "unmap_page", "iotlb_flush", "iotlb_flush_all")


@attrs.frozen
class Revision:
    """The callers' entry points of one revision, and the hooks of one vendor's driver.

    Attributes:
        files: the files that it was loaded from.
        others: its functions that are in `OTHERS`, by name.
    """

    name: str
    folder: Path
    files: tuple[Path, ...]
    map: Callable[[Cpu, Domain, Dfn, Mfn, int, MapFlags], Awaitable[int]]
    unmap: Callable[[Cpu, Domain, Dfn, int], Awaitable[int]]
    flush: Callable[[Cpu, Domain, Dfn, int], Awaitable[int]]
    flush_all: Callable[[Cpu, Domain], Awaitable[int]]
    hooks: Callable[[Driver], "IommuOps[Domain]"]
    others: Mapping[str, Callable[..., Awaitable[Any]]]

    def function(self, name: str) -> Callable[..., Awaitable[Any]]:
        """Return one of the revision's functions that are in `OTHERS`.

        Raises:
            ScenarioError: if it has none.
        """
        if name not in self.others:
            raise ScenarioError(f"the revision {self.name} has no {name}: copy it from one that comes with emu")
        return self.others[name]

    def make_ops(self, driver: Driver) -> "IommuOps[Domain]":
        """Return the hooks for a machine's units.

        Raises:
            ScenarioError: if they cannot be made of a driver alone.
        """
        return run_foreign(f"{self.files[-1]}: {self.hooks.__name__}(driver)", self.hooks, driver)


def bundled_name(name: str) -> str:
    """Return the name of a revision without the prefix `OURS`."""
    return name.removeprefix(OURS)


def is_bundled(name: str) -> bool:
    """Whether a revision comes with emu."""
    return bundled_name(name) in ALL_BUNDLED


def place_of(name: str) -> Path:
    """Return the folder of a revision, whether or not it exists."""
    return FOLDER / bundled_name(name) if is_bundled(name) else Path(name)


def refuse_ambiguous(name: str) -> None:
    """Refuse a name that both a revision of emu's and a folder of the user's have.

    Raises:
        ScenarioError: naming the two.
    """
    if name in ALL_BUNDLED and (Path(name) / WRAPPERS_FILE).is_file():
        raise ScenarioError(f"both emu's {name} and ./{name} exist: write {OURS}{name} or ./{name}")


def folder_of(name: str, hooks_file: str) -> Path:
    """Return the folder of a revision.

    Raises:
        ScenarioError: if there is none.
    """
    if not is_bundled(name) and not Path(name).is_dir():
        known = [one for one in ALL_BUNDLED if (FOLDER / one / hooks_file).is_file()]
        raise unknown_revision(name, known, f", or a folder with {WRAPPERS_FILE} and {hooks_file}")
    return place_of(name)


def unknown_revision(name: str, known: Sequence[str] = ALL_BUNDLED, others: str = "") -> ScenarioError:
    """Return the error for a revision that does not exist; it names the existing ones."""
    hint = did_you_mean(bundled_name(name), known)
    return ScenarioError(f"there is no revision {name!r}{hint}: use one of {', '.join(known)}{others}")


def load_revision(
    name: str, hooks_file: str, hooks_class: str, glue_file: str, *, needs_glue: bool = False
) -> Revision:
    """Return a revision by its name, or from a folder.

    Args:
        hooks_file, hooks_class: the file and the class with the hooks of a vendor's driver.
        glue_file: the file with code of the architecture.
        needs_glue: a revision cannot do without that file.

    Raises:
        ScenarioError: naming the file and line of a mistake in it.
    """
    folder = folder_of(name, hooks_file).resolve()
    glue = (glue_file,) if needs_glue or (folder / glue_file).is_file() else ()
    return load_folder(name, folder, glue, hooks_file, hooks_class, is_watched(folder))


@lru_cache(maxsize=16)
def load_folder(
    name: str, folder: Path, glue: tuple[str, ...], hooks_file: str, hooks_class: str, is_watched: bool
) -> Revision:
    """Return the revision in a folder.

    Args:
        glue: the files with code of the architecture.
        is_watched: its files note their executed lines: files loaded without notes are loaded again.

    Raises:
        ScenarioError: naming the file and line of a mistake in it.
    """
    files = tuple(folder / one for one in (WRAPPERS_FILE, *glue, hooks_file))
    modules = load_files(files)
    wrappers, *_, hooks = modules
    map_, unmap, flush, flush_all = entry_points(wrappers)
    others = {
        wanted: function(one, wanted, takes)
        for wanted, takes in OTHERS.items()
        for one in modules
        if hasattr(one, wanted)
    }
    return Revision(name, folder, files, map_, unmap, flush, flush_all, hooks_of(hooks, hooks_class), others)


def load_files(files: Sequence[Path]) -> list[ModuleType]:
    """Run files of one folder; each may import from those before it, as in `from .iommu import iommu_map`.

    Raises:
        ScenarioError: if one is not there, or fails.
    """
    found: dict[str, ModuleType] = {}
    before = {}
    try:
        for file in files:
            module = load_file(file)
            before[module.__name__] = sys.modules.get(module.__name__)
            sys.modules[module.__name__] = found[module.__name__] = module
    finally:
        for name, module_before in before.items():
            del sys.modules[name]
            if module_before is not None:
                sys.modules[name] = module_before
    return list(found.values())


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
        tree, names = compiled(path)
        vars(module).update(names)
        code = compile(tree, str(path.resolve()), "exec")
    except SyntaxError as error:
        raise ScenarioError(f"{error.filename or path}:{error.lineno or 1}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ScenarioError(f"{path} cannot be compiled: {said_by(error)}") from error
    run_foreign(str(path), exec, code, vars(module))
    return module


def hooks_of(module: ModuleType, name: str) -> Callable[[Driver], "IommuOps[Domain]"]:
    """Return the class of a driver's hooks, if it has all hooks.

    Raises:
        ScenarioError: for a hook that is missing, not async, or takes other parameters.
    """
    found: Any = getattr(module, name, None)
    if not isinstance(found, type):
        raise ScenarioError(f"{module.__file__}:1: there is no class {name}: define or import it")
    for hook in HOOKS:
        takes = tuple(inspect.signature(getattr(IommuOps, hook)).parameters)
        may_take = tuple(inspect.signature(getattr(WrapperOps, hook)).parameters)
        function(found, hook, takes, module.__file__, may_take)
    hooks: Callable[[Driver], IommuOps[Domain]] = found
    return hooks


def entry_points(wrappers: ModuleType) -> tuple[Callable[..., Awaitable[int]], ...]:
    """Return the functions that callers call to map, to unmap, to flush and to flush all.

    Raises:
        ScenarioError: for a function that is missing, not async, or takes other parameters.
    """
    has_legacy_wrappers = hasattr(wrappers, "iommu_legacy_map") or hasattr(wrappers, "iommu_legacy_unmap")
    needed = LEGACY_WRAPPERS if has_legacy_wrappers else WRAPPERS
    found = {wanted: function(wrappers, wanted, takes) for wanted, takes in needed.items()}
    if not has_legacy_wrappers:
        return tuple(found[wanted] for wanted in WRAPPERS)

    flush, flush_all = (
        partial(found[name], flush_type=FlushType.MODIFIED) for name in ("iommu_iotlb_flush", "iommu_iotlb_flush_all")
    )
    return found["iommu_legacy_map"], found["iommu_legacy_unmap"], flush, flush_all


def function(
    owner: Any, name: str, takes: tuple[str, ...], file: str | None = None, may_take: tuple[str, ...] | None = None
) -> Callable[..., Awaitable[Any]]:
    """Return an async function of a module or a class that takes certain parameters, or others that it may take.

    Raises:
        ScenarioError: if there is none.
    """
    found: Any = getattr(owner, name, None)
    if not inspect.isfunction(found):
        raise ScenarioError(f"{file or owner.__file__}:1: there is no {name}: define or import it")
    where = f"{found.__code__.co_filename}:{found.__code__.co_firstlineno}"
    has = tuple(inspect.signature(found).parameters)
    if has not in {takes, may_take}:
        raise ScenarioError(f"{where}: {name} takes ({', '.join(has)}); let it take ({', '.join(takes)})")
    if not inspect.iscoroutinefunction(found):
        raise ScenarioError(f"{where}: {name} is not async: write `async def {name}`")
    checked: Callable[..., Awaitable[Any]] = found
    return checked
