"""What an observation tells of its instances."""

from __future__ import annotations

from gpu_fleet.scaling.observation import Phase
from tests.scaling.builders import pool_seen


def test_a_pool_names_its_instances_by_their_phase_in_the_order_seen() -> None:
    seen = pool_seen(ready=2, starting=1, unhealthy=1)
    assert [i.id for i in seen.those(Phase.READY)] == ["i-0", "i-1"]
    assert [i.id for i in seen.those(Phase.UNHEALTHY, Phase.STARTING)] == ["s-0", "u-0"]
    assert seen.those(Phase.DRAINING) == []
    assert seen.those() == []
