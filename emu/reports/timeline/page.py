"""The page of a timeline: its frame, styles, scripts and data in one file, which loads nothing and needs nothing.

The data may come from a stranger's log. It stands in the page as JSON in which no character can end an element, the
scripts put it into the page as text only, and the policy allows no other script, style or request.
"""

import base64
import hashlib
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import orjson

from emu.reports.counts import count

SCRIPTS = ("model.js", "draw.js", "page.js")
ESCAPES = {ord(one): f"\\u{ord(one):04x}" for one in "<>&\u2028\u2029"}
"""How JSON writes the characters that could end an element or a line of a script."""


def page(timeline: dict[str, Any]) -> bytes:
    """Return the page of a timeline."""
    style, script = part("page.css"), "\n".join(part(name) for name in SCRIPTS)
    policy = (
        f"default-src 'none'; style-src '{digest(style)}'; script-src '{digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    found = timeline["findings"]
    said = [f"{len(timeline['events'])} events.", *(f"{one['message']}." for one in found)]
    return (
        Template(part("page.html"))
        .substitute(
            policy=policy,
            title=escape(f"{timeline['scenario']}: {count(len(found), 'finding')}"),
            style=style,
            summary=escape(" ".join(said)),
            data=orjson.dumps(timeline).decode().translate(ESCAPES),
            script=script,
        )
        .encode()
    )


def part(name: str) -> str:
    """Return a part of the page."""
    return files("emu.reports.timeline").joinpath(name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """Return what a policy names of an inline style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
