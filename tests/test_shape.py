"""How large files and functions are, and that each function says what it raises."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_layers import own_nodes

ROOT = Path(__file__).parent.parent
FILES = sorted(path for folder in ("emu", "scenarios", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
EACH_FILE = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 40

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> list[Function]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, Function)]


def lines_of(function: Function) -> int:
    """Return how many lines a function has; what its decorators are given is data."""
    return (function.end_lineno or 0) - function.lineno + 1


def raised_by(function: Function) -> Iterator[ast.expr]:
    """Yield what a function itself raises, and not a function within it; what it merely raises again does not count."""
    for node in own_nodes(function):
        if isinstance(node, ast.Raise) and node.exc is not None:
            yield node.exc


def unsaid(function: Function) -> list[str]:
    """Return what a function raises and its docstring does not say; a class is to be named there."""
    _, heading, said = (ast.get_docstring(function) or "").partition("Raises:")
    raised = [ast.unparse(one.func if isinstance(one, ast.Call) else one) for one in raised_by(function)]
    return [name for name in raised if not heading or (name[0].isupper() and name not in said)]


def test_there_are_files_to_look_at() -> None:
    assert {"emu", "scenarios", "benchmarks"} == {path.relative_to(ROOT).parts[0] for path in FILES}


@EACH_FILE
def test_a_file_is_short_enough_to_be_read_at_once(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= FILE_LINES_MAX


@EACH_FILE
def test_a_function_is_short_enough_to_be_read_at_once(path: Path) -> None:
    assert [one.name for one in functions(path.read_text()) if lines_of(one) > FUNCTION_LINES_MAX] == []


@EACH_FILE
def test_a_function_says_what_it_raises(path: Path) -> None:
    assert {one.name: unsaid(one) for one in functions(path.read_text()) if unsaid(one)} == {}


def test_a_function_of_too_many_lines_is_noticed() -> None:
    (function,) = functions("@decorated\ndef f():\n" + "    pass\n" * FUNCTION_LINES_MAX)
    assert lines_of(function) == FUNCTION_LINES_MAX + 1


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    raise ValueError('x')",
        "def f():\n    'Do it.\\n\\n    Raises:\\n        KeyError: if it cannot.'\n    raise ValueError",
        "def f():\n    if x:\n        raise error_of(x)",
    ],
)
def test_what_a_function_raises_and_does_not_say_is_noticed(source: str) -> None:
    assert unsaid(functions(source)[0])


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    'Do it.\\n\\n    Raises:\\n        ValueError: if it cannot.'\n    raise ValueError('x')",
        "def f():\n    try:\n        g()\n    except ValueError:\n        raise",
        "def f():\n    def g():\n        raise ValueError\n    return g",
    ],
)
def test_what_a_function_says_or_need_not_say_is_fine(source: str) -> None:
    assert unsaid(functions(source)[0]) == []
