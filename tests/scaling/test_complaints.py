"""docs/complaints.md: every complaint names who had it and tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "complaints.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")][
    1:
]


def test_the_page_counts_its_complaints() -> None:
    assert f"{len(ROWS)} complaints" in PAGE
    assert len({row[0] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_complaint_is_held_by_tests_that_exist(row: list[str]) -> None:
    _, whose, how, held_by = row
    assert "#" in whose or "SkyPilot" in whose or "knative" in whose
    assert how
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", held_by)
    assert named
    for path, test in named:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^\s*def {test}\(", text, re.MULTILINE), f"{path} has no {test}"
