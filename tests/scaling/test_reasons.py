"""Every reason has a constructor, and a sentence that a reader understands."""

from __future__ import annotations

import ast
import math
from collections import defaultdict
from pathlib import Path

import pytest

from tests.docs.reasons import Constructor, constructors

ALL = tuple(constructors())
SHARED = {"sizing.threshold", "vertical.wait", "vertical.short", "vertical.no_saving"}
"""Codes that several occasions share, each with a constructor of its own."""


@pytest.mark.parametrize("made", ALL, ids=lambda one: f"{one.module}.{one.name}")
def test_a_reason_is_a_sentence_with_finite_numbers(made: Constructor) -> None:
    reason = made.reason
    assert reason.sentence.endswith(".")
    # A pool, a key or a count may begin a sentence; the sample of each is lower case.
    assert (
        reason.sentence[0].isupper() or reason.sentence[0].isdigit() or reason.sentence.startswith(("l4", "routing."))
    )
    assert all(math.isfinite(value) for value in reason.numbers.values())
    assert made.meaning.endswith(".")


def test_no_code_has_two_constructors_but_those_that_occasions_share() -> None:
    by_code = defaultdict(list)
    for made in ALL:
        by_code[made.reason.code].append(made.name)
    assert {code for code, names in by_code.items() if len(names) > 1} == SHARED


def test_reasons_are_made_nowhere_else(root: Path) -> None:
    """A sentence beside the decision that it explains would be missed by the list of codes."""
    elsewhere = [
        path.name
        for path in sorted((root / "gpu_fleet/scaling").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Reason"
    ]
    assert elsewhere == []
