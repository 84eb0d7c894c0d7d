"""`emu explain`: says what a kind of finding, an event or a key of a log is."""

import click

from emu.cli.options import json_option
from emu.cli.output import show_json


@click.command("explain", short_help="Say what a kind of finding, an event or a key is.")
@click.argument("word", metavar="[WORD]", required=False)
@json_option("Print JSON.")
def explain_command(*, word: str | None, as_json: bool) -> None:
    """Say what WORD is: a kind of finding, an event of a log, or a key of one.

    Without WORD, all of them are listed.
    """
    from emu.reports.explain import every_word, listed, words

    found = list(every_word() if word is None else words(word))
    if as_json:
        show_json("words", {"words": [one.data() for one in found]})
        return
    for line in listed(found) if word is None else (line for one in found for line in one.lines()):
        click.echo(line)
