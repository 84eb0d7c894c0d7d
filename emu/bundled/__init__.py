"""What comes with emu besides its code: scenarios and benchmarks.

They stand at the top level of a checkout; a wheel carries them in this folder.
"""

from pathlib import Path


def folder(name: str) -> Path:
    """Return a folder that comes with emu, "scenarios" or "benchmarks"."""
    inside = Path(__file__).parent / name
    return inside if inside.is_dir() else Path(__file__).parents[2] / name
