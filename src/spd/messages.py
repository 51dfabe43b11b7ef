"""What libraries say of an error, fit for one line."""

from __future__ import annotations


def one_line(said: object, limit: int | None = None) -> str:
    """The words of an error, or of anything else, with single spaces between them; an error's class if it says nothing.

    Args:
        said: an exception, or what ``str`` makes words of.
        limit: characters that are kept at most; None keeps all.

    Example:
        >>> one_line(ValueError("  no   such  file "))
        'no such file'
        >>> one_line(KeyError())
        'KeyError'
    """
    return " ".join(str(said).split())[:limit] or type(said).__name__


def first_line(error: BaseException, limit: int | None = None) -> str:
    """The first line of what an error says, where the others repeat it at length.

    Example:
        >>> first_line(RuntimeError("cannot connect" + chr(10) + "tried five times"))
        'cannot connect'
    """
    lines = str(error).strip().splitlines()
    return one_line(lines[0], limit) if lines else type(error).__name__
