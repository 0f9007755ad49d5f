"""A policy file with some keys changed, everything else as it was typed: comments, order and quotes."""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

WIDEST = 10_000
"""Lines are not broken anew: a user's long line stays one."""


def patched(text: str, values: Mapping[str, float | int | str], comment: Sequence[str] = ()) -> str:
    """The text with each key (`section.name`) set; a section that is not there is added at the end, before `cases`.

    `comment` stands as lines of comment above the first key that was changed.
    """
    yaml = YAML()
    yaml.width = WIDEST
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    document: CommentedMap = yaml.load(text)
    first: tuple[CommentedMap, str] | None = None
    for key, value in values.items():
        section, _, name = key.partition(".")
        if section not in document:
            _add(document, section)
        document[section][name] = value
        first = first or (document, section)
    if first is not None and comment:
        said = "\n".join(comment)
        first[0].yaml_set_comment_before_after_key(first[1], before=said)
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()


def _add(document: CommentedMap, section: str) -> None:
    place = list(document).index("cases") if "cases" in document else len(document)
    new: Any = CommentedMap()
    document.insert(place, section, new)


def difference(before: str, after: str, file: str) -> str:
    """What changed, as `git apply` and `patch -p1` take it."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{file}", f"b/{file}"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
