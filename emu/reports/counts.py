"""Numbers with their nouns."""


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun.

    Args:
        plural: where it is not the noun with an s.
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
