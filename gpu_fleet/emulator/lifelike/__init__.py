"""moto made lifelike: one module for each difference from AWS, all mended while `lifelike` is open.

What AWS refuses stands in `refusals`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from gpu_fleet.emulator.cloud_world import CloudWorld
from gpu_fleet.emulator.lifelike import (
    desired_capacity,
    event_rules,
    group_update,
    hooks,
    interruptions,
    lifecycle,
    metric_store,
    placement,
    refresh,
    replacement,
    scaling_activities,
    scaling_policies,
    target_health,
    template_versions,
    termination,
)
from gpu_fleet.emulator.lifelike.difference import Difference, Patches
from gpu_fleet.emulator.lifelike.refusals import refuse

DIFFERENCES: tuple[Difference, ...] = tuple(
    module.DIFFERENCE
    for module in (
        scaling_activities,
        desired_capacity,
        event_rules,
        group_update,
        hooks,
        interruptions,
        lifecycle,
        metric_store,
        placement,
        refresh,
        replacement,
        scaling_policies,
        target_health,
        template_versions,
        termination,
    )
)
"""Everything that is mended, with its source."""


@dataclass(frozen=True, slots=True)
class Lifelike:
    """What was put in place of moto's own."""

    activities: scaling_activities.ActivityLog
    targets: target_health.Targets
    hooks: hooks.Hooks
    lifecycle: lifecycle.Lifecycle
    replacements: replacement.Replacements
    refreshes: refresh.Refreshes
    metrics: metric_store.Metrics
    events: event_rules.EventBus


@contextlib.contextmanager
def lifelike(world: CloudWorld, account: str, region: str) -> Iterator[Lifelike]:
    """Mend moto for a while: everything that it holds from now on lives in the world's time.

    `account` and `region` are those whose groups are looked after and whose metrics are given back.
    """
    log, health, waits = scaling_activities.ActivityLog(world), target_health.Targets(world), hooks.Hooks(world)
    life = lifecycle.Lifecycle(world, log, health, waits)
    replacements = replacement.Replacements(world, life, (account, region))
    refreshes = refresh.Refreshes(world, life, replacements)
    with Patches() as patches:
        scaling_activities.mend(log, patches)
        target_health.mend(health, patches)
        hooks.mend(waits, patches)
        desired_capacity.mend(patches)
        scaling_policies.mend(patches)
        template_versions.mend(patches)
        lifecycle.mend(life, patches)
        group_update.mend(life, patches)
        refresh.mend(refreshes, patches)
        refuse(patches)
        store = metric_store.mend(world, patches)
        replacements.begin()
        bus = event_rules.EventBus(world, (account, region))
        yield Lifelike(log, health, waits, life, replacements, refreshes, store(account, region), bus)
