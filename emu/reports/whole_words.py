"""Filling lines to a width without breaking a word, so that a path, a command or a number stays whole."""

import textwrap


def in_whole_words(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Return a text in lines of a width; a word that is wider has a line of its own.

    Args:
        first, rest: what the first line, and each further one, begins with.
    """
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
