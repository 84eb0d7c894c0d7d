"""What docs/logs.md says of the keys of a log is the vocabulary, and what its queries return is what it shows.

`python -m tests.cli.test_logs_page` renews the table of keys.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest

from emu.reports.key_types import sort_of
from emu.reports.log import LOG_FORMAT
from emu.reports.vocabulary import KEYS
from tests.fenced import fenced

Emu = Callable[..., tuple[int, str, str]]

PAGE = Path(__file__).parents[2] / "docs/logs.md"
BLOCKS = list(fenced(PAGE.read_text()))
QUERIES = [(query, shown) for (language, query), (_, shown) in pairwise(BLOCKS) if language == "sql"]
COMMANDS = [(one, shown) for (language, one), (_, shown) in pairwise(BLOCKS) if language == "jq"]

SORTS = {"number": "number", "flag": "true or false", "list": "list", "text": "text"}
KEY_WIDTH, SORT_WIDTH = 24, 13


def table() -> str:
    """Return the table of keys."""
    cells = [("key", "type", "meaning"), *((f"`{key}`", SORTS[sort_of(key)], KEYS[key]) for key in KEYS)]
    lines = [f"| {key:{KEY_WIDTH}} | {sort:{SORT_WIDTH}} | {meaning} |" for key, sort, meaning in cells]
    lines.insert(1, f"|{'-' * (KEY_WIDTH + 2)}|{'-' * (SORT_WIDTH + 2)}|---------|")
    return "\n".join(lines)


def test_the_keys_are_those_of_the_vocabulary_with_type_and_meaning() -> None:
    assert f"\n\n{table()}\n\n" in PAGE.read_text()
    assert f"`{LOG_FORMAT}`" in PAGE.read_text()


def test_there_are_five_queries_and_five_commands() -> None:
    assert (len(QUERIES), len(COMMANDS)) == (5, 5)


@pytest.fixture
def race(emu: Emu) -> None:
    """The log that the page asks."""
    (console,) = [text for language, text in BLOCKS if language == "console"]
    (run,) = re.findall(r"^\$ emu (run .*) > ", console, re.MULTILINE)
    assert emu(*shlex.split(run))[0] == 0


@pytest.mark.parametrize(("query", "shown"), QUERIES)
def test_a_query_of_duckdb_returns_what_is_shown(race: None, query: str, shown: str) -> None:
    rows = duckdb.connect().execute(query).fetchall()
    assert "".join(" ".join(map(str, row)) + "\n" for row in rows) == shown


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not on PATH")
@pytest.mark.parametrize(("command", "shown"), COMMANDS)
def test_a_command_of_jq_prints_what_is_shown(race: None, command: str, shown: str) -> None:
    assert subprocess.run(shlex.split(command), check=True, capture_output=True, text=True).stdout == shown


def test_numbers_of_64_bits_are_read_by_duckdb_as_they_are(emu: Emu) -> None:
    words = [(1 << 64) - 1, 1 << 63, 5]
    Path("words.jsonl").write_text("".join(f'{{"event":"x","value":{word}}}\n' for word in words))
    assert [value for (value,) in duckdb.connect().execute("SELECT value FROM 'words.jsonl'").fetchall()] == words


if __name__ == "__main__":
    PAGE.write_text(
        re.sub(r"^\| key .*?\n\n", lambda _: f"{table()}\n\n", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    )
