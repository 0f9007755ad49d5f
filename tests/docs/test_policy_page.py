"""docs/policy.md gives each key of a policy one row: who changes it, and what happens then."""

from __future__ import annotations

import re

from gpu_fleet.config.schemas import keys
from gpu_fleet.scaling.policy import Policy
from tests.docs.pages import ROOT

ROW = re.compile(r"^\| `([\w.]+)` \| (.+) \|$", re.MULTILINE)


def _rows() -> list[tuple[str, str]]:
    """Return key and story of each row of the page's tables."""
    return ROW.findall((ROOT / "docs/policy.md").read_text())


def _leaf_keys() -> list[str]:
    """Return the dotted keys that hold a value, without those of cases."""
    paths = [key.path for key in keys(Policy) if key.path.split("[")[0].split(".")[0] != "cases"]
    return [path for path in paths if not any(other.startswith(f"{path}.") for other in paths)]


def test_every_key_of_a_policy_has_exactly_one_row_and_no_row_names_another():
    assert sorted(key for key, _ in _rows()) == sorted(_leaf_keys())


def test_every_row_tells_a_story_of_its_own():
    stories = [story for _, story in _rows()]
    assert len(set(stories)) == len(stories)
    assert [story for story in stories if not story.endswith(".")] == []
