"""The words that error messages share."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

_MAX_QUOTED = 60
"""Characters of a value that an error repeats."""


def quoted(value: object) -> str:
    """Return a value as an error repeats it: short, as the user would type it."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = one_line(text)
    if isinstance(value, str) and (not text or _reads_as_other_type(text)):
        text = f'"{text}"'
    return text if len(text) <= _MAX_QUOTED else text[: _MAX_QUOTED - 3] + "..."


def suggestion(name: str, allowed: Iterable[str]) -> str:
    """Return `did you mean max_step_in?` for a name that is not allowed, or else the list of allowed names."""
    allowed = list(allowed)
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.65)
    close = close or [other for other in allowed if name and other.startswith(name)]
    if close:
        return f"did you mean {close[0]}?"
    return f"allowed: {', '.join(allowed)}" if allowed else "none is allowed here"


def one_line(text: str) -> str:
    """Return the text with each run of white space as one space."""
    return " ".join(text.split())


def _reads_as_other_type(text: str) -> bool:
    return text.lower() in {"true", "false", "null", "nothing"} or re.fullmatch(r"[-+.\d][\d.eE+-]*", text) is not None
