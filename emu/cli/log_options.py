"""The options of `emu log`: filters, questions, and how the answer is shown."""

from typing import TYPE_CHECKING, Any

import click

from emu.cli.options import json_option, stack

if TYPE_CHECKING:
    from emu.reports.questions.table import Question

filter_options = stack(
    click.option("--execution", "executions", type=int, multiple=True, metavar="N", help="An execution: its seed."),
    click.option("--agent", "agents", multiple=True, metavar="NAME", help="Who acted: cpu0, 00:1f.0, vtd0."),
    click.option("--domain", "domains", type=int, multiple=True, metavar="N", help="The number of a domain."),
    click.option("--dfn", "dfns", multiple=True, metavar="N[:N]", help="A device frame number, or a range of them."),
    click.option("--frame", "frames", multiple=True, metavar="N", help="A frame that is mapped, freed or accessed."),
    click.option(
        "--lock", "locks", multiple=True, metavar="NAME", help="A lock, or its beginning: d1, d1.mapping_lock."
    ),
    click.option(
        "--event", "events", multiple=True, metavar="NAME", help="An event, or its beginning: pte, iotlb.fill."
    ),
    click.option("--steps", multiple=True, metavar="N[:N]", help="A step or a range; either end may be left out."),
)

question_options = stack(
    click.option("--page", metavar="DFN", help="Tell what happened to a page."),
    click.option("--owed", is_flag=True, help="Tell which deferred calls owe what, and what paid it."),
    click.option("--lock-holders", metavar="NAME", help="Tell who held a lock, and who waited."),
    click.option("--windows", is_flag=True, help="Tell all windows, the longest first."),
    click.option("--summary", is_flag=True, help="Count events, agents and findings."),
    click.option("--columns", metavar="KEY,KEY", help="Show these keys of each event."),
)

showing_options = stack(
    click.option("--follow", is_flag=True, help="Go on while the file grows, until Ctrl-C."),
    json_option("Print JSON lines."),
)


def question_of(domains: tuple[int, ...], **options: Any) -> "Question | None":
    """Return the question that is asked; None for the events themselves.

    Raises:
        click.UsageError: if more than one is asked.
        ScenarioError: for a text that is no number, or no key.
    """
    from emu.reports.filters import number
    from emu.reports.questions.chosen import chosen
    from emu.reports.questions.lock_holders import LOCK_HOLDERS
    from emu.reports.questions.owed import OWED
    from emu.reports.questions.page import page
    from emu.reports.questions.summary import SUMMARY
    from emu.reports.questions.windows import WINDOWS

    asked = [name for name, value in options.items() if value not in (None, False)]
    if len(asked) > 1:
        names = " and ".join(f"--{name.replace('_', '-')}" for name in asked[:2])
        raise click.UsageError(f"{names} are two questions: ask one at a time")
    match asked:
        case ["page"]:
            return page(number(options["page"], "--page"), domains)
        case ["columns"]:
            return chosen(options["columns"])
        case [name]:
            return {"lock_holders": LOCK_HOLDERS, "owed": OWED, "windows": WINDOWS, "summary": SUMMARY}[name]
    return None
