"""The independent fuzz (`bench/fuzz_decide.py`), in short: some random stories, and what long runs of it have found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from bench.fuzz_decide import CHECKS, Run, check_cadence, check_jump, check_steady, described, play, story_of
from bench.fuzz_world import Event, Story
from tests.scaling.builders import pool, service

RANDOM = [*(f"steady-{n}" for n in range(6)), *(f"chaos-{n}" for n in range(10)), "jump-0", "jump-1", "cadence-0"]
KNOWN: Mapping[str, str] = {}
"""Stories that still fail, and why: remove each once it holds."""


def case(name: str) -> Any:
    marks = [pytest.mark.xfail(strict=False, reason=KNOWN[name])] if name in KNOWN else []
    return pytest.param(name, marks=marks, id=name)


def holds(run: Run) -> None:
    assert not run.violations, "\n".join([*(f"{v}" for v in run.violations[:5]), described(run.story)])


@pytest.mark.parametrize("name", [case(name) for name in RANDOM])
def test_random_stories_hold(name: str) -> None:
    holds(CHECKS[name.rsplit("-", 1)[0]](story_of(name)))
