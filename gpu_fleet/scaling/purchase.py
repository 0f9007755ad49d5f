"""How a group splits its instances into on-demand and spot ones.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/mixed-instances-groups-set-up-overview.html
"""

from __future__ import annotations

import math

from gpu_fleet.scaling.service import Pool

ROUNDING = 1e-9
"""Share of an instance by which rounding may miss a whole one."""


def on_demand_count(pool: Pool, count: int, base: int | None = None) -> int:
    """On-demand instances among `count`: the base (by default the pool's own), and of the rest what is not spot.

    The on-demand share is rounded up: with a base of 1 and half on spot, 6 are 1 + 3 on-demand ones and 2 on spot.
    """
    base = pool.on_demand_base if base is None else base
    above = max(0, count - base)
    return count - above + math.ceil(above * (1 - pool.spot_percent / 100) - ROUNDING)


def base_for(pool: Pool, count: int, spot: int) -> int:
    """The least on-demand base at which the group wants no more than `spot` spot instances among `count`.

    With half on spot, 10 instances and 3 on spot: at a base of 3 the group wants 3 + 4 on-demand ones. Never less than
    the pool's own base.
    """
    bases = range(pool.on_demand_base, count + 1)
    return next((b for b in bases if count - on_demand_count(pool, count, b) <= spot), pool.on_demand_base)


def spot_leaves_next(pool: Pool, on_demand: int, spot: int) -> bool:
    """Whether the next to leave is a spot instance: of the two, the one that the group has too much of without it.

    With a base of 2 and the rest on spot, 2 on-demand and 6 spot instances lose the spot ones first.
    """
    return on_demand <= on_demand_count(pool, max(0, on_demand + spot - 1))
