"""An execution as a value change dump, which GTKWave and other viewers of waveforms read. A step is a nanosecond."""

import io
import re
from typing import Any

from emu.errors import ScenarioError
from emu.reports.exports.signals import Signal, signals
from emu.reports.recorded import Recorded

VCD_FORMAT = "emu-vcd-1"
TYPES = {"text": ("string", None), "bit": ("wire", 1), "count": ("integer", 32), "word": ("reg", 64)}
"""The type and the size of each kind of signal."""


def vcd(recorded: Recorded) -> bytes:
    """Return an execution as a value change dump.

    Raises:
        ScenarioError: if pyvcd is not installed.
    """
    try:
        from vcd import VCDWriter  # noqa: PLC0415 - it comes with the extra `vcd` only
    except ModuleNotFoundError:
        raise ScenarioError("a VCD is written by pyvcd, which is missing: pip install 'emu-iommu[vcd]'") from None
    file = io.StringIO()
    with VCDWriter(file, timescale="1 ns", date="", version=VCD_FORMAT) as writer:
        taken: set[tuple[str, str]] = set()
        changes = []
        for number, signal in enumerate(signals(recorded)):
            kind, size = TYPES[signal.kind]
            scope, name = unique(signal, taken)
            variable = writer.register_var(scope, name, kind, size=size, init=value_of(signal, signal.values.get(0)))
            changes += [
                (step, number, variable, value_of(signal, value)) for step, value in signal.values.items() if step
            ]
        for step, _, variable, value in sorted(changes, key=lambda change: change[:2]):
            writer.change(variable, step, value)
        writer.close(recorded.last + 1)
    return file.getvalue().encode()


def unique(signal: Signal, taken: set[tuple[str, str]]) -> tuple[str, str]:
    """Return scope and name of a signal in characters that a viewer takes; no two signals have the same."""
    scope, name = (re.sub(r"[^A-Za-z0-9_]", "_", one) or "_" for one in (signal.scope, signal.name))
    while (scope, name) in taken:
        name = f"{name}_"
    taken.add((scope, name))
    return scope, name


def value_of(signal: Signal, value: Any) -> Any:
    """Return a value as a dump writes it; x where it is not known."""
    if value is None:
        return "none" if signal.kind == "text" else "x"
    return re.sub(r"\s", "_", value) if signal.kind == "text" else value
