"""Finding scenarios: the bundled scenarios, and files that the user names."""

import importlib.util
from pathlib import Path
from types import ModuleType

from emu.bundled import folder
from emu.engine.foreign import run_foreign
from emu.errors import EmuError, ScenarioError, did_you_mean
from emu.files.bounded import read_bounded
from emu.scenarios.scenario import Scenario

SOURCE_BYTES_MAX = 1 << 20


def bundled() -> dict[str, Scenario]:
    """Return the scenarios that come with emu, by name, in order."""
    paths = sorted(folder("scenarios").glob("*.py"))
    found = [load(path) for path in paths]
    return {one.name: one for one in found}


def bundled_names() -> list[str]:
    """Return the names of the scenarios that come with emu, in order, without loading any."""
    return sorted(path.stem for path in folder("scenarios").glob("*.py"))


def find(name: str) -> Scenario:
    """Return a scenario by its name, or from a file that the user names.

    Raises:
        ScenarioError: if there is no such scenario.
    """
    if name.endswith(".py"):
        return load(Path(name))
    path = folder("scenarios") / f"{name}.py"
    if name.isidentifier() and path.is_file():
        return load(path)
    is_here = Path(f"{name}.py").is_file()
    hint = f" (did you mean {name}.py?)" if is_here else did_you_mean(name, bundled_names())
    raise ScenarioError(f"there is no scenario {name!r}{hint}; `emu list` shows them")


def load(path: Path) -> Scenario:
    """Run a scenario file and return the scenario in it.

    Raises:
        ScenarioError: if the file cannot be read or run, or does not hold exactly one scenario.
    """
    found = [value for value in vars(load_module(path)).values() if isinstance(value, Scenario)]
    if len(found) != 1:
        raise ScenarioError(f"{path} holds {len(found)} scenarios: put exactly one into each file")
    return found[0]


def load_module(path: Path) -> ModuleType:
    """Run a file and return it as a module.

    Raises:
        ScenarioError: if the file cannot be read or run.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ScenarioError(f"{path} is no file with a scenario: name a .py file that exists")
    read_bounded(path, SOURCE_BYTES_MAX, "the scenario")
    module = importlib.util.module_from_spec(spec)
    try:
        run_foreign("its code", spec.loader.exec_module, module)
    except EmuError as error:
        raise ScenarioError(f"{path} cannot be loaded: {error}") from error
    return module
