"""Where scenarios and benchmarks are found: those that come with emu, and scenarios in files that the user names."""

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import emu
from emu.benchmark import Benchmark, Program
from emu.errors import EmuError, ScenarioError
from emu.scenario import Scenario, did_you_mean


def bundled_folder(name: str = "scenarios") -> Path:
    """Return a folder that comes with emu: inside the package in a wheel, beside it in a checkout."""
    package = Path(emu.__file__).parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def bundled() -> dict[str, Scenario]:
    """Return the scenarios that come with emu, by name, in order."""
    paths = sorted(bundled_folder().glob("*.py"))
    found = [load(path) for path in paths]
    return {one.name: one for one in found}


def bundled_names() -> list[str]:
    """Return the names of the scenarios that come with emu, in order, without loading any."""
    return sorted(path.stem for path in bundled_folder().glob("*.py"))


def find(name: str) -> Scenario:
    """Return a scenario by its name, or from a file that the user names.

    Raises:
        ScenarioError: if there is none.
    """
    if name.endswith(".py"):
        return load(Path(name))
    path = bundled_folder() / f"{name}.py"
    if name.isidentifier() and path.is_file():
        return load(path)
    hint = did_you_mean(name, dict.fromkeys(bundled_names()))
    raise ScenarioError(f"there is no scenario {name!r}{hint}; `emu list` shows them")


def load(path: Path) -> Scenario:
    """Run a scenario file and return the scenario in it.

    Raises:
        ScenarioError: if it cannot be read or run, or holds no scenario.
    """
    found = [value for value in vars(load_module(path)).values() if isinstance(value, Scenario)]
    if len(found) != 1:
        raise ScenarioError(f"{path} holds {len(found)} scenarios: put exactly one into each file")
    return found[0]


def load_module(path: Path) -> ModuleType:
    """Run a file and return what it defines.

    Raises:
        ScenarioError: if it cannot be read or run.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ScenarioError(f"{path} is no file with a scenario: name a .py file that exists")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except EmuError as error:
        raise ScenarioError(f"{path} cannot be loaded: {error}") from error
    except Exception as error:
        raise ScenarioError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def benchmarks() -> dict[str, Benchmark]:
    """Return the benchmarks, by name, in the order in which their files list them."""
    modules = [load_module(path) for path in sorted(bundled_folder("benchmarks").glob("*.py"))]
    return {one.name: one for module in modules for one in module.BENCHMARKS}


def find_programs(names: Sequence[str], *, with_long: bool) -> list[Program]:
    """Return the programs of benchmarks by name: of one size, or of those worth a look; without names, of all of them.

    Raises:
        ScenarioError: if there is none of a name.
    """
    known = benchmarks()
    found = []
    for name in names or known:
        family, _, size = name.rpartition("-")
        if name in known:
            found += known[name].programs(with_long=with_long or (bool(names) and not known[name].sizes))
        elif family in known and re.fullmatch("[0-9]{1,18}", size):
            found.append(known[family].at(int(size)))
        else:
            hint = did_you_mean(name, known)
            raise ScenarioError(f"there is no benchmark {name!r}{hint}; `emu bench --list` shows them")
    return found
