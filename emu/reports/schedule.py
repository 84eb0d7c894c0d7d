"""What a saved schedule is: for somebody who took it for a log."""

import shlex
from typing import Any

from emu.reports.counts import count
from emu.running.replay import replay_words
from emu.running.save import SavedSchedule


def schedule_data(saved: SavedSchedule, text: str) -> dict[str, Any]:
    """Return what a schedule is as JSON data, with the commands that replay it and that make its log.

    The commands have gaps for code that does not come with emu.
    """
    scenario, revision = f"path/to/{saved.scenario.name}.py", f"path/to/{saved.revision.name}"
    words = replay_words(saved, text, scenario, revision)
    return {
        "scenario": saved.scenario.name,
        "revision": saved.revision.name,
        "parameters": saved.parameters,
        "strategy": saved.strategy,
        "seed": saved.seed,
        "steps": len(saved.schedule().agents),
        "about": saved.about,
        "replay": shlex.join(words),
        "log": shlex.join([*words, "--log", f"{saved.scenario.name}.jsonl"]),
    }


def schedule_sentence(saved: SavedSchedule) -> str:
    """Say what a schedule is."""
    parameters = "".join(f" -p {name}={value}" for name, value in saved.parameters.items())
    about = f"saved for the finding {saved.about!r}" if saved.about else "saved for no finding"
    return (
        f"This is a schedule, not a log: {count(len(saved.schedule().agents), 'step')} of the scenario "
        f"{saved.scenario.name}{parameters}, on the revision {saved.revision.name}, found by the strategy "
        f"{saved.strategy} with seed {saved.seed}, {about}."
    )
