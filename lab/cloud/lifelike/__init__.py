"""moto made lifelike: one module for each difference from AWS, all mended while `lifelike` is open.

What AWS refuses stands in `refusals`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from lab.cloud.lifelike import (
    activities,
    desired_capacity,
    events,
    group_update,
    hooks,
    interruptions,
    lifecycle,
    metrics,
    placement,
    refresh,
    replacement,
    scaling_policies,
    targets,
    template_versions,
    termination,
)
from lab.cloud.lifelike.difference import Difference, Patches
from lab.cloud.lifelike.refusals import refuse
from lab.cloud.world import World

DIFFERENCES: tuple[Difference, ...] = tuple(
    module.DIFFERENCE
    for module in (
        activities,
        desired_capacity,
        events,
        group_update,
        hooks,
        interruptions,
        lifecycle,
        metrics,
        placement,
        refresh,
        replacement,
        scaling_policies,
        targets,
        template_versions,
        termination,
    )
)
"""Everything that is mended, with its source."""


@dataclass(frozen=True, slots=True)
class Lifelike:
    """What was put in place of moto's own."""

    activities: activities.ActivityLog
    targets: targets.Targets
    hooks: hooks.Hooks
    lifecycle: lifecycle.Lifecycle
    replacements: replacement.Replacements
    refreshes: refresh.Refreshes
    metrics: metrics.Metrics
    events: events.EventBus


@contextlib.contextmanager
def lifelike(world: World, account: str, region: str) -> Iterator[Lifelike]:
    """Mend moto for a while: everything that it holds from now on lives in the world's time.

    `account` and `region` are those whose groups are looked after and whose metrics are given back.
    """
    log, health, waits = activities.ActivityLog(world), targets.Targets(world), hooks.Hooks(world)
    life = lifecycle.Lifecycle(world, log, health, waits)
    replacements = replacement.Replacements(world, life, (account, region))
    refreshes = refresh.Refreshes(world, life, replacements)
    with Patches() as patches:
        activities.mend(log, patches)
        targets.mend(health, patches)
        hooks.mend(waits, patches)
        desired_capacity.mend(patches)
        scaling_policies.mend(patches)
        template_versions.mend(patches)
        lifecycle.mend(life, patches)
        group_update.mend(life, patches)
        refresh.mend(refreshes, patches)
        refuse(patches)
        store = metrics.mend(world, patches)
        replacements.begin()
        bus = events.EventBus(world, (account, region))
        yield Lifelike(log, health, waits, life, replacements, refreshes, store(account, region), bus)
