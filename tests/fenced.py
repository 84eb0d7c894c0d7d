"""The fenced blocks of a page."""

import re
from collections.abc import Iterator


def fenced(page: str) -> Iterator[tuple[str, str]]:
    """Yield the language and the text of each fenced block."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        yield match[1], match[2]
