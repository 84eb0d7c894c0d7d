"""A fact of a finding: a line of its report."""

from typing import Any

import attrs


@attrs.frozen
class Fact:
    """Something that is known of a finding.

    Attributes:
        steps: the steps that it is about.
        values: the same for programs.
    """

    label: str
    text: str
    steps: tuple[int, ...] = ()
    values: dict[str, Any] = attrs.field(factory=dict)
