"""The fenced blocks of a page, and doing what they say, from top to bottom.

A `console` block has commands behind `$` and what each prints. A command of a `sh` block prints what the next block
without a language shows. `...` stands for lines that are left out. A `python` block that begins with the name of a file
is written to that file, any other is run, and a `diff` is applied.
"""

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

Emu = Callable[[str], str]
"""Runs a command of emu, and returns what it prints. The command may end with `| head`, `| tail` or `> FILE`."""

LEFT_OUT = "...\n"


def fenced(page: str) -> Iterator[tuple[str, str]]:
    """Yield the language and the text of each fenced block."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        yield match[1], match[2]


def section(page: str, heading: str) -> str:
    """Return what stands below a heading of the second level."""
    return page[page.index(f"\n## {heading}\n") :].removeprefix("\n").partition("\n## ")[0]


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table whose first column has this heading."""
    table = page[page.index(f"\n| {heading} ") :].partition("\n\n")[0]
    lines = table.strip().splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines]


def is_shown(shown: str, printed: str) -> bool:
    """Whether a page shows what a command prints, but for lines that it leaves out."""
    parts = [re.escape(part) for part in f"\n{shown}".split(f"\n{LEFT_OUT}")]
    return re.fullmatch(r"\n(?:.*\n)??".join(parts), f"\n{printed}", re.DOTALL) is not None


def patch(text: str) -> None:
    """Apply a unified diff of one file, whose hunks must fit the lines that they name."""
    heading, *hunks = re.split(r"^(?=@@)", text, flags=re.MULTILINE)
    path = Path(heading.split()[1])
    lines = path.read_text().splitlines()
    for hunk in reversed(hunks):
        where, *changes = hunk.splitlines()
        start = int(where[4:].split()[0].partition(",")[0]) - 1
        old = [line[1:] for line in changes if not line.startswith("+")]
        assert lines[start : start + len(old)] == old
        lines[start : start + len(old)] = [line[1:] for line in changes if not line.startswith("-")]
    path.write_text("\n".join(lines) + "\n")


def commands_in(text: str) -> list[str]:
    """Return the commands of a block for the shell."""
    return re.split(r" && |\n", text.strip())


def of_emu(text: str) -> Iterator[str]:
    """Yield those of them that are emu's own."""
    return (one.removeprefix(".venv/bin/") for one in commands_in(text) if re.match(r"(\.venv/bin/)?emu ", one))


def others(text: str) -> Iterator[str]:
    """Yield those that set an environment up, or land a change."""
    return (one for one in commands_in(text) if not re.match(r"(\.venv/bin/)?emu ", one))


def steps(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console, and what is shown below it."""
    for step in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = step.partition("\n")
        yield command, shown


def follow(page: str, emu: Emu, printed_by: Callable[[str], str]) -> None:
    """Do what the blocks of a page say, in order, and hold what they print against what the page shows.

    Args:
        printed_by: runs a program in Python and returns what it prints.
    """
    printed = ""
    for language, text in fenced(page):
        match language:
            case "diff":
                patch(text)
            case "python" if named := re.match(r"# (\w+\.py)\n", text):
                Path(named[1]).write_text(text)
            case "python":
                printed = printed_by(text)
            case "sh":
                printed = "".join(emu(command) for command in of_emu(text))
            case "console":
                for command, shown in steps(text):
                    assert is_shown(shown, emu(command)), f"$ {command}"
            case "sql" | "jq":
                pass  # tests/cli/test_logs_page.py runs it
            case "" if printed:
                assert is_shown(text, printed.lstrip("\n")), text
                printed = ""
            case "":
                pass  # a drawing
            case _:
                raise AssertionError(f"nobody knows what to do with a block of {language!r}")


def piped(out: str, into: str) -> str:
    """Return what `head -n N` or `tail -n N` leaves."""
    lines = out.splitlines(keepends=True)
    verb, _, number = shlex.split(into)
    return "".join(lines[: int(number)] if verb == "head" else lines[-int(number) :])
