"""What is known of a schedule that was made smaller: how few preemptions a finding takes, and which orders it needs."""

import attrs


@attrs.frozen
class Story:
    """A schedule that shows a finding, and was made smaller.

    Attributes:
        preemptions: how many preemptions it has; None if they were not counted.
        found_with: how many the schedule had by which the finding was found.
        is_minimal: it is proved that none with fewer preemptions shows the finding.
        needs: the orders without which the finding does not show, each such as "cpu1's map before cpu0's flush".
    """

    preemptions: int | None = None
    found_with: int | None = None
    is_minimal: bool = False
    needs: tuple[str, ...] = ()
