"""Where events and keys of logs occur: an execution of a scenario that comes with emu, and the code that emits them.

`occurrences.json` has the executions; `python -m tests.test_glossary` renews it.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import attrs
import cattrs
import orjson

ROOT = Path(__file__).parent.parent
FILE = Path(__file__).with_suffix(".json")

OF_LOGS = ("reports", "analysis", "cli")
"""Folders that tell of events, and emit none into a trace."""


@attrs.frozen
class Occurrence:
    """An event or a key in an execution.

    Attributes:
        scenario, parameters, seed: the execution, as `emu run` takes them.
        by: the kinds of agents by which an event is; empty for a key.
        beside: the keys that an event may have, or the events that may have a key.
    """

    scenario: str
    parameters: str
    seed: int
    by: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    def command(self) -> str:
        """Return the command that runs the execution and writes its log."""
        parameters = "".join(f" -p {one}" for one in self.parameters.split())
        return f"emu run {self.scenario}{parameters} --seed {self.seed} --no-shrink --log x.jsonl"


@cache
def occurrences() -> Mapping[str, Mapping[str, Occurrence]]:
    """Return the occurrences of events and of keys, each by name; what occurs in no scenario is left out."""
    return cattrs.structure(orjson.loads(FILE.read_bytes()), dict[str, dict[str, Occurrence]])


@cache
def sources() -> Mapping[str, str]:
    """Return the text of each file that may emit events, by its path from the folder of the package."""
    paths = [path for path in sorted(ROOT.rglob("*.py")) if path.relative_to(ROOT).parts[0] not in OF_LOGS]
    return {f"emu/{path.relative_to(ROOT).as_posix()}": path.read_text(encoding="utf-8") for path in paths}


def emitters(event: str) -> Iterator[str]:
    """Yield the functions and classes that emit an event, as file and name; of a file's constant only the file."""
    for file, text in sources().items():
        if f'"{event}"' in text:
            for name in dict.fromkeys(naming(ast.parse(text), event, "")):
                yield f"{file}: {name}" if name else file


def naming(tree: ast.AST, text: str, outer: str) -> Iterator[str]:
    """Yield the function or class around each constant that is a text; a class within another has both names."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Constant) and node.value == text:
            yield outer
        name = outer
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{outer}.{node.name}".lstrip(".")
        yield from naming(node, text, name)
