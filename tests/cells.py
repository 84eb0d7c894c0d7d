"""The cells that are judged: each scenario that comes with emu, with the parameters of its table, on each revision."""

from emu.scenarios.library import bundled

LITMUS = "walk_litmus"
"""It writes its tables itself and calls nothing that a revision has: one revision stands for all."""

CELLS = [
    (f"{name} {cell}".strip(), revision)
    for name, scenario in bundled().items()
    for cell in scenario.cells
    for revision in scenario.platform_of(dict(pair.split("=", 1) for pair in cell.split())).revisions
    if name != LITMUS or revision == "merged"
]

TABLE_CELLS = [f"{what} revision={revision}" for what, revision in CELLS]
"""Each cell as a user writes it."""
