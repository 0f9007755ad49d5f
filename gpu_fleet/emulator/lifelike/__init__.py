"""moto made lifelike: one module per difference from AWS, all patched while `lifelike` is open.

The package `refusals` holds the requests that AWS refuses and moto accepts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from gpu_fleet.emulator.cloud_world import CloudWorld, Location
from gpu_fleet.emulator.lifelike import (
    desired_capacity,
    event_rules,
    group_operations,
    group_update,
    hooks,
    image_builder,
    instance_launch,
    interruptions,
    lifecycle,
    metric_queries,
    metric_store,
    placement,
    pull_through_cache,
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
        group_operations,
        group_update,
        hooks,
        image_builder,
        instance_launch,
        interruptions,
        lifecycle,
        metric_queries,
        metric_store,
        placement,
        pull_through_cache,
        refresh,
        replacement,
        scaling_policies,
        target_health,
        template_versions,
        termination,
    )
)
"""Every difference that is patched, with its source."""


@dataclass(frozen=True, slots=True)
class Lifelike:
    """The parts that replace moto's own."""

    targets: target_health.Targets
    lifecycle: lifecycle.Lifecycle
    metrics: metric_store.Metrics
    events: event_rules.EventBus


@contextlib.contextmanager
def lifelike(world: CloudWorld, location: Location) -> Iterator[Lifelike]:
    """Patch moto until exit: everything that it holds from now on lives in the world's time.

    Groups are rebalanced and metrics returned for `location`.
    """
    activities, targets = scaling_activities.ActivityLog(world), target_health.Targets(world)
    actions = hooks.LifecycleActions(world)
    life = lifecycle.Lifecycle(world, activities, targets, actions)
    replacements = replacement.Replacements(world, life, location)
    refreshes = refresh.Refreshes(world, life, replacements)
    stores = metric_store.MetricStores(world)
    with Patches() as patches:
        scaling_activities.patch_moto(activities, patches)
        target_health.patch_moto(targets, patches)
        hooks.patch_moto(actions, patches)
        desired_capacity.patch_moto(patches)
        scaling_policies.patch_moto(patches)
        template_versions.patch_moto(patches)
        group_operations.patch_moto(life, patches)
        group_update.patch_moto(life, patches)
        refresh.patch_moto(refreshes, patches)
        pull_through_cache.patch_moto(patches)
        image_builder.patch_moto(patches)
        refuse(patches)
        metric_store.patch_moto(stores, patches)
        metric_queries.patch_moto(stores, patches)
        replacements.start()
        events = event_rules.EventBus(world, location)
        yield Lifelike(targets, life, stores.of(location), events)
