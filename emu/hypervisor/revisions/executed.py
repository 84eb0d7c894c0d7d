"""The lines of a revision that are executed: a watched revision's files note each of them."""

import ast
import difflib
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from emu.files.bounded import read_bounded

SOURCE_BYTES_MAX = 1 << 20

NOTE = "__emu_executed__"
"""The name that a watched file calls before each statement of its functions, with the number of its line."""

Executed = Mapping[str, frozenset[int]]
"""The lines of the statements that were executed, by the name of the file."""

WATCHED: dict[Path, dict[str, set[int]]] = {}
"""The lines executed so far, by folder and file; kept as long as the process runs, like the loaded modules."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def watch(folder: Path) -> None:
    """Let the files of a folder note the lines that they execute, if they are loaded after this."""
    WATCHED.setdefault(folder.resolve(), {})


def is_watched(folder: Path) -> bool:
    """Whether the files of a folder note the lines that they execute, if they are loaded now."""
    return folder.resolve() in WATCHED


def executed(folder: Path) -> Executed:
    """Return the executed lines of a watched folder since it was loaded."""
    return {file: frozenset(lines) for file, lines in sorted(WATCHED.get(folder.resolve(), {}).items())}


def compiled(path: Path) -> tuple[ast.Module, dict[str, object]]:
    """Return a file's code and the names that it needs; the code notes its executed lines if its folder is watched.

    Raises:
        SyntaxError, ValueError: if the file is not valid Python.
        ScenarioError: if it cannot be read.
    """
    tree = ast.parse(read_bounded(path, SOURCE_BYTES_MAX, "the revision's file"), str(path))
    names: dict[str, object] = {}
    files = WATCHED.get(path.parent.resolve())
    if files is not None:
        names[NOTE] = files.setdefault(path.name, set()).add
        for function in functions(tree):
            note_each(function)
        ast.fix_missing_locations(tree)
    return tree, names


def functions(tree: ast.AST) -> list[Function]:
    """Return the functions in a file, in order."""
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def note_each(node: ast.AST) -> None:
    """Insert a note before each statement below a node, except in functions and classes."""
    for name in ("body", "orelse", "finalbody"):
        statements = getattr(node, name, None)
        if isinstance(statements, list):
            setattr(node, name, list(noted(statements)))
    for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
        note_each(part)


def noted(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements with a note before each; a docstring stays the first."""
    for index, one in enumerate(statements):
        if not (index == 0 and is_text(one)):
            call = ast.Call(ast.Name(NOTE, ast.Load()), [ast.Constant(one.lineno)], [])
            yield ast.copy_location(ast.Expr(call), one)
        if not isinstance(one, Function | ast.ClassDef):
            note_each(one)
        yield one


def is_text(statement: ast.stmt) -> bool:
    """Whether a statement is only a constant, such as a docstring."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def never_entered(folder: Path, seen: Executed) -> list[str]:
    """Return the functions in the loaded files of a revision of which no statement was executed, as file and name."""
    found = []
    for file, executed_lines in seen.items():
        for function in functions(ast.parse((folder / file).read_bytes())):
            lines = {one.lineno for one in statements_in(function)}
            if lines and not lines & executed_lines:
                found.append(f"{file}: {function.name}")
    return found


def never_executed(folder: Path, base: Path, seen: Executed) -> list[str]:
    """Return the lines of a revision that differ from a base and were never executed, as file and number."""
    found: dict[str, None] = {}
    for file, executed_lines in seen.items():
        changed = set(changed_lines(lines_of(base / file), lines_of(folder / file)))
        for function in functions(ast.parse((folder / file).read_bytes())):
            for one in statements_in(function):
                last = one.body[0].lineno - 1 if hasattr(one, "body") else one.end_lineno or one.lineno
                lines = changed.intersection(range(one.lineno, last + 1))
                if lines and one.lineno not in executed_lines:
                    found[f"{file}:{one.lineno}"] = None
    return list(found)


def lines_of(path: Path) -> list[str]:
    """Return the lines of a Python file, in the encoding that it names; none if there is no such file."""
    if not path.is_file():
        return []
    with tokenize.open(path) as file:
        return file.read().splitlines()


def statements_in(function: Function) -> list[ast.stmt]:
    """Return the statements of a function, without docstrings and other constants."""
    found = [one for one in ast.walk(function) if isinstance(one, ast.stmt) and one is not function]
    return sorted((one for one in found if not is_text(one)), key=lambda one: one.lineno)


def changed_lines(before: list[str], after: list[str]) -> Iterator[int]:
    """Yield the numbers of the lines that are new or changed."""
    for tag, _, _, first, last in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag in {"insert", "replace"}:
            yield from range(first + 1, last + 1)
