"""Numbers with their nouns."""


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun.

    Args:
        plural: the noun's plural, where that does not end in s.
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
