"""Finds benchmarks, and their programs by name."""

import re
from collections.abc import Sequence

from emu.bench.benchmark import Benchmark, Program
from emu.bundled import folder
from emu.errors import ScenarioError, did_you_mean
from emu.scenarios.library import load_module


def benchmarks() -> dict[str, Benchmark]:
    """Return the benchmarks, by name, in the order in which their files list them."""
    modules = [load_module(path) for path in sorted(folder("benchmarks").glob("*.py"))]
    return {one.name: one for module in modules for one in module.BENCHMARKS}


def find_programs(names: Sequence[str], *, with_long: bool) -> list[Program]:
    """Return the programs of these names: `sb-6` is one size, `sb` its default sizes, no name all benchmarks.

    Raises:
        ScenarioError: if there is no benchmark of a name.
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
