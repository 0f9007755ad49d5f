"""The life of a group's instances in virtual time: launch, boot, hooks, service, drain, end."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from moto.autoscaling import models
from moto.core.exceptions import ServiceException
from moto.moto_api._internal import mock_random

from gpu_fleet.emulator.cloud_world import Change, InstanceChange, Launch
from gpu_fleet.emulator.lifelike.difference import Difference
from gpu_fleet.emulator.lifelike.hooks import CONTINUE, LAUNCHING, TERMINATING, LifecycleActions
from gpu_fleet.emulator.lifelike.instance_launch import forget_instance, launch_template, run_instance
from gpu_fleet.emulator.lifelike.placement import LaunchPlacement, instance_types, split, zones_by_need
from gpu_fleet.emulator.lifelike.scaling_activities import Activity, ActivityLog
from gpu_fleet.emulator.lifelike.target_health import HEALTHY, UNHEALTHY, Targets
from gpu_fleet.emulator.lifelike.termination import Candidate, choose
from gpu_fleet.scaling.boot import Boot

if TYPE_CHECKING:
    from gpu_fleet.emulator.cloud_world import CloudWorld

DIFFERENCE = Difference(
    name="instance lifecycle",
    moto=(
        "instances are InService at once when launched and gone at once when terminated; all are registered at the "
        "target groups at once, none is deregistered"
    ),
    aws=(
        "Pending, then Pending:Wait for the launching hooks, registered at the load balancer, InService; at the end "
        "deregistered and drained, then Terminating:Wait for the terminating hooks, then terminated; an instance that "
        "fails its health checks after the grace period is replaced"
    ),
    source=(
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks-overview.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/health-checks-overview.html"
    ),
)

REACTION_SECONDS = 1.0
"""From a changed capacity until the group acts on it. AWS gives no figure; seconds."""
RUNNING_SECONDS = 15.0
"""From launch until EC2 reports `running` and the launching hook starts. AWS gives no figure; typically below 30 s."""
RETRY_SECONDS = 60.0
"""Until a group retries a launch for which EC2 had no capacity. AWS gives no figure."""
HEARTBEAT_SECONDS = 60.0
"""Interval of the heartbeats that a draining instance's own agent sends."""
FORGOTTEN_SECONDS = 3600.0
"""EC2 shows terminated instances for about an hour:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/terminating-instances.html"""

FAILED_EC2_CHECK = "an EC2 health check that indicated it has been terminated or stopped"
"""The cause of an activity after an instance was lost, in AWS's words."""

PENDING = ("Pending", "Pending:Wait", "Pending:Proceed")
LIVE = (*PENDING, "InService")


class GroupInstance(models.InstanceState):
    """An instance of a group, with the attributes that moto's own record lacks."""

    def __init__(self, instance: Any, group: Any, version: int, launched_at: float) -> None:
        """Record an instance just launched from this version of the group's template."""
        protected = bool(group.new_instances_protected_from_scale_in)
        super().__init__(instance, "Pending", "Healthy", protected, group)
        self.auto_scaling_group: Any = group
        self.availability_zone: str = instance.placement.zone
        self.version = version
        self.template = group.ec2_launch_template
        self.launched_at = launched_at
        self.in_service_at: float | None = None
        self.answers = False
        self.boot: Boot | None = None
        """Phases that it publishes when it answers."""
        self.spot = instance.lifecycle == "spot"
        self.activity: Activity | None = None
        self.replaces: GroupInstance | None = None
        """The instance that is terminated when this one is in service and healthy."""

    @property
    def launch_template(self) -> dict[str, Any] | None:
        """The template's version from which it was launched."""
        if self.template is None:
            return None
        return {
            "LaunchTemplateId": self.template.id,
            "LaunchTemplateName": self.template.name,
            "Version": str(self.version),
        }

    @property
    def live(self) -> bool:
        """Whether it counts toward the group's capacity."""
        return self.lifecycle_state in LIVE


class Lifecycle:
    """Auto Scaling's work on the instances of all groups."""

    def __init__(self, world: CloudWorld, activities: ActivityLog, targets: Targets, actions: LifecycleActions) -> None:
        """Start with no instance; from now on `targets` learns here which instance answers."""
        self.world, self.activities, self.targets, self.actions = world, activities, targets, actions
        self.members: dict[str, GroupInstance] = {}
        self.group_of: dict[str, str] = {}
        """The group of each instance ever launched."""
        self._retry_at: dict[str, float] = {}
        self._planned: set[str] = set()
        self._launches: Counter[str] = Counter()
        targets.answers = self._answers
        targets.changed = self._target_changed

    # -- capacity ---------------------------------------------------------------------------------------------------

    def capacity_changed(self, group: Any) -> None:
        """React in a moment to the group's new desired capacity."""
        self._retry_at.pop(group.name, None)
        self.reconcile_later(group, REACTION_SECONDS)

    def reconcile_later(self, group: Any, seconds: float = REACTION_SECONDS) -> None:
        """Reconcile in `seconds`, once even if several calls ask for the same moment."""
        key = f"{group.name}@{self.world.now + seconds}"
        if key in self._planned:
            return
        self._planned.add(key)

        def reconcile() -> None:
            self._planned.discard(key)
            self.reconcile(group)

        self.world.call_later(seconds, reconcile)

    def reconcile(self, group: Any) -> None:
        """Launch or terminate instances until the group has its desired capacity."""
        members = self.live_members(group)
        replacements = sum(m.replaces is not None for m in members)
        count, desired = len(members) - replacements, int(group.desired_capacity or 0)
        if count < desired and not suspended(group, "Launch"):
            if self.world.now >= self._retry_at.get(group.name, -math.inf):
                self._launch_missing(group)
        elif count > desired and not suspended(group, "Terminate"):
            self._shrink(group, count, desired)

    def live_members(self, group: Any) -> list[GroupInstance]:
        """Return the instances that count toward the group's capacity."""
        return [m for m in group.instance_states if m.live]

    def _launch_missing(self, group: Any) -> None:
        """Launch the missing instances, spot and on demand by the group's policy; retry later if EC2 refuses."""
        members = [m for m in self.live_members(group) if m.replaces is None]
        desired = int(group.desired_capacity)
        missing = desired - len(members)
        on_demand = sum(not m.spot for m in members)
        on_demand_target = split(desired, group.mixed_instances_policy).on_demand
        on_demand_missing = min(missing, max(0, on_demand_target - on_demand))
        cause = (
            "an instance was started in response to a difference between desired and actual capacity, "
            f"increasing the capacity from {len(members)} to {desired}."
        )
        refused = False
        for spot, count in ((False, on_demand_missing), (True, missing - on_demand_missing)):
            for _ in range(count):
                if self.launch(group, spot=spot, cause=cause) is None:
                    refused = True
                    break
        if refused:
            self._retry_at[group.name] = self.world.now + RETRY_SECONDS
            self.reconcile_later(group, RETRY_SECONDS)

    def launch(self, group: Any, *, spot: bool, cause: str, zones: list[str] | None = None) -> GroupInstance | None:
        """Launch one instance, the emptiest zone and the preferred type first.

        Returns None if EC2 refuses, each time with a failed activity, or if somebody has suspended `Launch`.
        """
        if suspended(group, "Launch"):
            return None
        version = launch_template(group).get_version(group.launch_template_version)
        types = instance_types(group.mixed_instances_policy, version.instance_type)
        if not group.mixed_instances_policy and (version.data.get("InstanceMarketOptions") or {}).get("MarketType"):
            spot = True
        subnets = {s.availability_zone: s.id for s in reversed(_subnets(group))}
        counts = Counter(m.availability_zone for m in self.live_members(group))
        for zone in zones or zones_by_need(group.availability_zones, counts):
            error = ""
            placements = [LaunchPlacement(type_, zone, subnets.get(zone), spot) for type_ in types]
            for placement in placements:
                shortage = self.world.shortage(group.name, placement.type, zone, spot=spot)
                if shortage is not None:
                    error = shortage.error or lack_of_capacity(placement)
                    continue
                try:
                    return self._start(group, version, placement, cause)
                except ServiceException as refused:  # a template that names what does not exist, for instance
                    error = f"{refused.code} - {refused.message}."
            self._record_refusal(group, placements[-1], error, cause)
        return None

    def _record_refusal(self, group: Any, placement: LaunchPlacement, error: str, cause: str) -> None:
        market = "Spot" if placement.spot else "On-Demand"
        message = f"Could not launch {market} Instances. {error} Launching EC2 instance failed."
        activity = self.activities.begin(
            group, "Launching a new EC2 instance", cause, subnet=placement.subnet, zone=placement.zone
        )
        self.activities.end(activity, "Failed", message)

    def _start(self, group: Any, version: Any, placement: LaunchPlacement, cause: str) -> GroupInstance:
        # Every call draws a request id from moto's random numbers; an instance's id must depend on its group and turn
        # alone.
        self._launches[group.name] += 1
        mock_random.seed(f"{self.world.seed}/{group.name}/{self._launches[group.name]}")
        instance = run_instance(group, version, placement)
        member = GroupInstance(instance, group, version.number, self.world.now)
        group.instance_states.append(member)
        self.members[member.instance_id] = member
        self.group_of[member.instance_id] = group.name
        member.activity = self.activities.begin(
            group,
            f"Launching a new EC2 instance: {instance.id}",
            cause,
            subnet=placement.subnet,
            zone=placement.zone,
        )
        member.activity.progress = 30
        self.notify(member, Change.LAUNCHED)
        launch = Launch(instance.id, group.name, placement.type, placement.zone, placement.spot, self.world.now)
        boot = self.world.boot_seconds_of(launch)
        if isinstance(boot, Boot):
            member.boot = boot
        # Group and load balancer take the time of the last phase themselves.
        seconds = boot.seconds - boot.healthy if isinstance(boot, Boot) else boot
        if seconds is not None and math.isfinite(seconds):
            self.world.call_later(max(seconds, RUNNING_SECONDS), lambda: self.start_answering(member))
        self.world.call_later(RUNNING_SECONDS, lambda: self._start_launching_hooks(member))
        return member

    # -- from launch to service -------------------------------------------------------------------------------------

    def _start_launching_hooks(self, member: GroupInstance) -> None:
        if member.lifecycle_state != "Pending":
            return
        group = member.auto_scaling_group
        if not self.actions.begin(
            group, member.instance_id, LAUNCHING, lambda why: self._end_launching_hooks(member, why)
        ):
            self._enter_service(member)
            return
        member.lifecycle_state = "Pending:Wait"
        if member.activity:
            member.activity.status_code, member.activity.progress = "MidLifecycleAction", 60
        if member.answers:
            self.actions.complete_all(member.instance_id, CONTINUE)

    def start_answering(self, member: GroupInstance) -> None:
        """Let the model answer: the instance's own agent completes the launching hook, health checks pass."""
        if not member.live:
            return
        member.answers = True
        self.notify(member, Change.ANSWERS)
        if member.lifecycle_state == "Pending:Wait":
            self.actions.complete_all(member.instance_id, CONTINUE)
        self.targets.reconsider(member.instance_id)

    def stop_answering(self, member: GroupInstance) -> None:
        """Let health checks fail from now on."""
        member.answers = False
        self.targets.reconsider(member.instance_id)

    def _end_launching_hooks(self, member: GroupInstance, abandoned: str | None) -> None:
        if abandoned is None:
            self._enter_service(member)
            return
        if member.activity:
            self.activities.end(
                member.activity, "Cancelled", f"Instance failed to complete user's Lifecycle Action: {abandoned}"
            )
            member.activity = None
        self.terminate(member, "an instance was taken out of service in response to an abandoned lifecycle action.")
        self.reconcile_later(member.auto_scaling_group)

    def _enter_service(self, member: GroupInstance) -> None:
        group = member.auto_scaling_group
        member.lifecycle_state = "Pending:Proceed"
        if not suspended(group, "AddToLoadBalancer"):
            self.register(group, member)
        member.lifecycle_state = "InService"
        member.in_service_at = self.world.now
        if member.activity:
            self.activities.end(member.activity)
            member.activity = None
        self._terminate_replaced(member)
        grace_seconds = float(group.health_check_grace_period or 0)
        self.world.call_later(grace_seconds, lambda: self._check_health(member))
        self.reconcile_later(group)

    def _terminate_replaced(self, member: GroupInstance) -> None:
        """Terminate the instance that this one replaces, once this one is in service and healthy at its targets."""
        if member.replaces is None or member.lifecycle_state != "InService":
            return
        if any(target.state != HEALTHY for target in self.targets.of(member.instance_id)):
            return
        old, member.replaces = member.replaces, None
        if old.live:
            cause = f"an instance was taken out of service in response to its replacement {member.instance_id}."
            self.terminate(old, cause)

    def register(self, group: Any, member: GroupInstance) -> None:
        """Register an instance at all target groups of its group."""
        for arn in group.target_group_arns:
            target_group = group.autoscaling_backend.elbv2_backend.target_groups.get(arn)
            if target_group is not None:
                target_group.register([{"Id": member.instance_id, "Port": target_group.port}])

    def _answers(self, instance_id: str) -> bool:
        member = self.members.get(instance_id)
        return True if member is None else member.answers

    def _target_changed(self, instance_id: str, state: str) -> None:
        member = self.members.get(instance_id)
        if member is None:
            return
        if state == HEALTHY:
            self.notify(member, Change.HEALTHY)
            self._terminate_replaced(member)
        elif state == UNHEALTHY:
            self.notify(member, Change.UNHEALTHY)
            self._check_health(member)

    def _check_health(self, member: GroupInstance) -> None:
        """Replace an unhealthy instance once its grace period is over."""
        group = member.auto_scaling_group
        if member.lifecycle_state != "InService" or suspended(group, "HealthCheck"):
            return
        grace_over = self.world.now >= (member.in_service_at or 0) + float(group.health_check_grace_period or 0)
        unhealthy_target = "ELB" in (group.health_check_type or "") and any(
            self.targets.state(arn, member.instance_id) == UNHEALTHY for arn in group.target_group_arns
        )
        if grace_over and unhealthy_target:
            self.replace_unhealthy(member, "an ELB system health check failure")

    def replace_unhealthy(self, member: GroupInstance, check: str) -> None:
        """Terminate an instance that failed a health check, and let the group launch another."""
        member.health_status = "Unhealthy"
        if suspended(member.auto_scaling_group, "ReplaceUnhealthy"):
            return
        self.terminate(member, f"an instance was taken out of service in response to {check}.")
        self.reconcile_later(member.auto_scaling_group)

    # -- from service to the end ------------------------------------------------------------------------------------

    def _shrink(self, group: Any, count: int, desired: int) -> None:
        members = {m.instance_id: m for m in self.live_members(group)}
        candidates = [
            Candidate(
                m.instance_id, m.availability_zone, m.spot, m.launched_at, m.version, bool(m.protected_from_scale_in)
            )
            for m in members.values()
        ]
        cause = (
            "an instance was taken out of service in response to a difference between desired and actual capacity, "
            f"shrinking the capacity from {count} to {desired}."
        )
        goal = split(desired, group.mixed_instances_policy)
        for instance_id in choose(candidates, count - desired, goal, group.termination_policies):
            self.terminate(members[instance_id], cause)

    def terminate(self, member: GroupInstance, cause: str) -> Activity:
        """Take an instance out of service: deregister and drain it, run its terminating hooks, then terminate it."""
        self.actions.forget(member.instance_id)
        if member.activity:  # it was still launching
            self.activities.end(member.activity, "Cancelled")
        was_in_service = member.lifecycle_state in ("InService", "Standby")
        member.lifecycle_state = "Terminating"
        activity = self._begin_termination(member, cause)
        registrations = self.targets.of(member.instance_id)
        if was_in_service:
            self.notify(member, Change.DRAINING)
        if not registrations:
            self._start_terminating_hooks(member)
            return activity
        activity.status_code, activity.progress = "WaitingForELBConnectionDraining", 50
        drained_count = itertools.count(1)

        def one_drained() -> None:
            if next(drained_count) == len(registrations):
                self._start_terminating_hooks(member)

        for target in registrations:
            target.group.targets.pop(member.instance_id, None)
            self.targets.deregister(target.group, member.instance_id, one_drained)
        return activity

    def _begin_termination(self, member: GroupInstance, cause: str) -> Activity:
        member.activity = self.activities.begin(
            member.auto_scaling_group,
            f"Terminating EC2 instance: {member.instance_id}",
            cause,
            subnet=member.instance.subnet_id,
            zone=member.availability_zone,
        )
        return member.activity

    def _start_terminating_hooks(self, member: GroupInstance) -> None:
        if member.lifecycle_state != "Terminating":
            return
        group = member.auto_scaling_group
        if not self.actions.begin(group, member.instance_id, TERMINATING, lambda _: self._end(member)):
            self._end(member)
            return
        member.lifecycle_state = "Terminating:Wait"
        if member.activity:
            member.activity.status_code, member.activity.progress = "MidTerminatingLifecycleAction", 60
        self._send_heartbeats(member)
        if member.in_service_at is None:  # it never had a request
            self.world.call_later(0, lambda: self.finish_drain(member.instance_id))
        else:
            seconds = self.world.drain_seconds_of(member.instance_id)
            if seconds is not None:
                # Counted from the deregistration: the deregistration delay may have passed already.
                began = self.world.now - min(seconds, _longest_deregistration_delay(member))
                self.world.call_at(began + seconds, lambda: self.finish_drain(member.instance_id))

    def _send_heartbeats(self, member: GroupInstance) -> None:
        """Let the instance's agent send heartbeats while it drains; if its engine is dead it sends none."""
        if member.lifecycle_state == "Terminating:Wait" and member.answers:
            self.actions.heartbeat_all(member.instance_id)
            self.world.call_later(HEARTBEAT_SECONDS, lambda: self._send_heartbeats(member))

    def finish_drain(self, instance_id: str) -> None:
        """End the drain of an instance whose last request has ended: its agent completes the terminating hook."""
        self.targets.finish_drain(instance_id)
        member = self.members.get(instance_id)
        if member is not None and member.lifecycle_state == "Terminating:Wait":
            self.actions.complete_all(instance_id, CONTINUE)

    def _end(self, member: GroupInstance) -> None:
        member.lifecycle_state = "Terminating:Proceed"
        self.remove(member, Change.GONE)

    def lose(self, member: GroupInstance, check: str) -> None:
        """Remove an instance taken away behind the group's back; the group notices by its EC2 health check."""
        if member.instance_id not in self.members:
            return
        self.actions.forget(member.instance_id)
        if not member.lifecycle_state.startswith("Terminating"):
            if member.activity:
                self.activities.end(member.activity, "Cancelled")
            self._begin_termination(member, f"an instance was taken out of service in response to {check}.")
        member.health_status = "Unhealthy"
        self.remove(member, Change.LOST)
        self.reconcile_later(member.auto_scaling_group)

    def remove(self, member: GroupInstance, change: Change) -> None:
        """Terminate an instance at once, without drain or hooks, and report `change`."""
        group = member.auto_scaling_group
        ec2_backend = group.autoscaling_backend.ec2_backend
        for target in self.targets.of(member.instance_id):
            target.group.targets.pop(member.instance_id, None)
        self.targets.forget(member.instance_id)
        if member.instance.state != "terminated":
            ec2_backend.terminate_instances([member.instance_id])
        member.lifecycle_state = "Terminated"
        group.instance_states = [m for m in group.instance_states if m is not member]
        self.members.pop(member.instance_id, None)
        if member.activity:
            self.activities.end(member.activity)
            member.activity = None
        self.notify(member, change)
        self.world.call_later(FORGOTTEN_SECONDS, lambda: forget_instance(ec2_backend, member.instance_id))
        self.reconcile_later(group)

    def notify(self, member: GroupInstance, change: Change) -> None:
        """Tell the world's watchers about a change of an instance."""
        self.world.notify(
            InstanceChange(
                self.world.now,
                change,
                member.instance_id,
                member.auto_scaling_group_name,
                member.instance_type,
                member.availability_zone,
                member.spot,
            )
        )


def lack_of_capacity(placement: LaunchPlacement) -> str:
    """Return EC2's error where it has no such instance."""
    if placement.spot:
        lack = "There is no Spot capacity available that matches your request."
    else:
        lack = (
            f"We currently do not have sufficient {placement.type} capacity in the Availability Zone you requested "
            f"({placement.zone}). Our system will be working on provisioning additional capacity."
        )
    return f"InsufficientInstanceCapacity - {lack}"


def suspended(group: Any, process: str) -> bool:
    """Return whether the group has suspended this process."""
    return any(p["ProcessName"] == process for p in group.suspended_processes)


def _subnets(group: Any) -> list[Any]:
    ids = group.vpc_zone_identifier.split(",") if group.vpc_zone_identifier else []
    by_id = {s.id: s for s in group.ec2_backend.describe_subnets(subnet_ids=ids)} if ids else {}
    return [by_id[i] for i in ids if i in by_id]


def _longest_deregistration_delay(member: GroupInstance) -> float:
    group = member.auto_scaling_group
    target_groups = group.autoscaling_backend.elbv2_backend.target_groups
    delays = [
        float(target_groups[arn].attributes.get("deregistration_delay.timeout_seconds", 300))
        for arn in group.target_group_arns
        if arn in target_groups
    ]
    return max(delays, default=0.0)
