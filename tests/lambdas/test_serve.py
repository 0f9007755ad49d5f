"""One run over all services."""

from __future__ import annotations

from scaling.decision import PoolTarget


def test_more_capacity_is_ordered_and_weights_follow(world, deciding):
    world.stand()
    results = world.run(deciding(l4=PoolTarget(4, 300), l40s=PoolTarget(1, 100)))
    assert results["chat"].outcome == "applied", results["chat"]
    assert world.desired() == {"l4": 4, "l40s": 1}
    assert world.weights() == {"l4": 300, "l40s": 100}
