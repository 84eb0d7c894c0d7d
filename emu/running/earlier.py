"""The result of an earlier check, as the JSON that `emu check --json` prints and `--against` reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import cattrs
import orjson

from emu.errors import ScenarioError
from emu.files.bounded import read_bounded
from emu.running.cells import CellResult
from emu.running.strict import STRICT

FORMAT = "emu-check-1"
BYTES_MAX = 64 << 20


def side_data(result: CellResult) -> dict[str, Any]:
    """Return the result of one side in a cell as JSON data."""
    data: dict[str, Any] = cattrs.unstructure(attrs.evolve(result, executed={}))
    return data


def read_earlier(path: Path) -> Mapping[str, CellResult]:
    """Return the results of an earlier check, by cell.

    Raises:
        ScenarioError: if the file is not the JSON of a check, or cannot be read.
    """
    try:
        data = orjson.loads(read_bounded(path, BYTES_MAX, "the result of a check"))
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
