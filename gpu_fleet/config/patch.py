"""A policy file with some keys changed; comments, order and quotes stay as the user typed them."""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

MAX_LINE_WIDTH = 10_000
"""Characters: no line of a user is wrapped."""


def patched(text: str, values: Mapping[str, float | int | str], comment: Sequence[str] = ()) -> str:
    """Return the text with each key (`section.name`) set; a new section goes to the end, before `cases`.

    The lines of `comment` go above the first changed key.
    """
    yaml = YAML()
    yaml.width = MAX_LINE_WIDTH
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    document: CommentedMap = yaml.load(text)
    for key, value in values.items():
        section, _, name = key.partition(".")
        if section not in document:
            _add_section(document, section)
        document[section][name] = value
    if values and comment:
        first_section = next(iter(values)).partition(".")[0]
        document.yaml_set_comment_before_after_key(first_section, before="\n".join(comment))
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()


def _add_section(document: CommentedMap, section: str) -> None:
    index = list(document).index("cases") if "cases" in document else len(document)
    new: Any = CommentedMap()
    document.insert(index, section, new)


def difference(before: str, after: str, file: str) -> str:
    """Return the change as a unified diff for `git apply` and `patch -p1`."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{file}", f"b/{file}"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
