"""What an earlier check has found, as the JSON that `emu check --json` prints and `--against` takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import cattrs
import orjson

from emu.errors import ScenarioError, reason_of
from emu.running.cells import CellResult
from emu.running.strict import STRICT

FORMAT = "emu-check-1"
SIZE_MAX = 50_000_000


def side_data(result: CellResult) -> dict[str, Any]:
    """Return what one side shows in a cell as what JSON can hold."""
    data: dict[str, Any] = cattrs.unstructure(attrs.evolve(result, executed={}))
    return data


def read_earlier(path: Path) -> Mapping[str, CellResult]:
    """Return what a revision has shown, by cell.

    Raises:
        ScenarioError: if the file is no such JSON, or cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise ScenarioError(f"{path} is no file: name what `emu check --json` has printed")
        with path.open("rb") as file:
            text = file.read(SIZE_MAX + 1)
    except (OSError, ValueError) as error:
        raise ScenarioError(f"{path} cannot be read: {reason_of(error)}") from None
    if len(text) > SIZE_MAX:
        raise ScenarioError(f"{path} is larger than {SIZE_MAX} bytes: it is no result of a check")
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ScenarioError(f"{path} is no JSON: {error}; it may have been cut") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise ScenarioError(
            f"{path} has the format {str(found)[:40]!r}, not {FORMAT!r}: make it anew with `emu check --json`"
        )
    try:
        return STRICT.structure(data["cells"], dict[str, CellResult])
    except Exception as error:
        raise ScenarioError(f"{path} is damaged: its cells cannot be read; make it anew") from error
