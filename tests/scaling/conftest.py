"""What every test of the model starts from."""

from __future__ import annotations

import pytest

from gpu_fleet.scaling import sizing


@pytest.fixture(autouse=True)
def _no_share_is_remembered() -> None:
    """Each test works its shares out itself: mutation testing forks from a process in which all have been, and would
    find a warm memory where a mutant should stand."""
    sizing._share_within_slo.cache_clear()
