"""The life of a group's instances in virtual time: launch, boot, hooks, service, drain, end."""

from __future__ import annotations

import copy
import hashlib
import itertools
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from moto.autoscaling import models, responses
from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.core.responses import ActionResult
from moto.moto_api._internal import mock_random

from gpu_fleet.emulator.cloud_world import Change, InstanceChange, Launch
from gpu_fleet.emulator.lifelike.difference import Difference, Patches
from gpu_fleet.emulator.lifelike.hooks import CONTINUE, LAUNCHING, TERMINATING, Hooks
from gpu_fleet.emulator.lifelike.placement import Split, instance_types, split, zones_by_need
from gpu_fleet.emulator.lifelike.scaling_activities import Activity, ActivityLog
from gpu_fleet.emulator.lifelike.target_health import HEALTHY, UNHEALTHY, Targets
from gpu_fleet.emulator.lifelike.termination import Candidate, choose

if TYPE_CHECKING:
    from gpu_fleet.emulator.cloud_world import CloudWorld

DIFFERENCE = Difference(
    name="instance lifecycle",
    moto=(
        "instances are InService in the moment of the call and gone in the moment of the next; "
        "all are registered at once, none is deregistered"
    ),
    aws=(
        "Pending, then Pending:Wait for the launching hooks, registered at the load balancer, InService; at the end "
        "deregistered and drained, then Terminating:Wait for the terminating hooks, then terminated; "
        "what fails its health checks after the grace period is replaced"
    ),
    source=(
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks-overview.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/health-checks-overview.html"
    ),
)

ACTS_AFTER_SECONDS = 1.0
"""From a changed capacity until the group acts on it. AWS gives no figure; seconds."""
RUNS_AFTER_SECONDS = 15.0
"""From launch until EC2 says `running`, when the launching hook starts. AWS gives no figure; typically below 30 s."""
RETRIES_AFTER_SECONDS = 60.0
"""Until a group tries again what EC2 had no capacity for. AWS gives no figure."""
HEARTBEAT_SECONDS = 60.0
"""How often an instance that drains says that it is still at it: as its own agent does."""
FORGOTTEN_AFTER_SECONDS = 3600.0
"""Terminated instances are shown for about an hour:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/terminating-instances.html"""

PENDING = ("Pending", "Pending:Wait", "Pending:Proceed")
LIVE = (*PENDING, "InService")


class GroupInstance(models.InstanceState):
    """An instance of a group, with what moto's own record lacks."""

    def __init__(self, instance: Any, group: Any, version: int, launched_at: float, *, protected: bool) -> None:
        """A member that was just launched from this version of the group's template."""
        super().__init__(instance, "Pending", "Healthy", protected, group)
        self.auto_scaling_group: Any = group
        self.availability_zone: str = instance.placement.zone
        self.version = version
        self.template = group.ec2_launch_template
        self.launched_at = launched_at
        self.in_service_at: float | None = None
        self.answers = False
        self.spot = instance.lifecycle == "spot"
        self.activity: Activity | None = None
        self.replaces: GroupInstance | None = None
        """The member that goes when this one is in service and healthy."""

    @property
    def launch_template(self) -> dict[str, Any] | None:
        """The version that it was launched from."""
        if self.template is None:
            return None
        return {
            "LaunchTemplateId": self.template.id,
            "LaunchTemplateName": self.template.name,
            "Version": str(self.version),
        }

    @property
    def live(self) -> bool:
        """Whether it counts for the group's capacity."""
        return self.lifecycle_state in LIVE


class Lifecycle:
    """What Auto Scaling does to the instances of all groups."""

    def __init__(self, world: CloudWorld, activities: ActivityLog, targets: Targets, hooks: Hooks) -> None:
        """Takes over the targets' view of which instance answers."""
        self.world, self.activities, self.targets, self.hooks = world, activities, targets, hooks
        self.members: dict[str, GroupInstance] = {}
        self.group_of: dict[str, str] = {}
        """The group of each instance that was ever launched."""
        self._retry: dict[str, float] = {}
        self._planned: set[str] = set()
        self._launches: Counter[str] = Counter()
        targets.answers = self._answers
        targets.changed = self._target_changed

    # -- capacity ---------------------------------------------------------------------------------------------------

    def wants(self, group: Any) -> None:
        """The group's wish changed: act on it in a moment."""
        self._retry.pop(group.name, None)
        self._plan(group, ACTS_AFTER_SECONDS)

    def _plan(self, group: Any, seconds: float) -> None:
        key = f"{group.name}@{self.world.now + seconds}"
        if key in self._planned:
            return
        self._planned.add(key)

        def act() -> None:
            self._planned.discard(key)
            self.reconcile(group)

        self.world.after(seconds, act)

    def reconcile(self, group: Any) -> None:
        """Launch or terminate until the group's instances are as many as desired."""
        members = self.live(group)
        beyond = sum(m.replaces is not None for m in members)
        count, desired = len(members) - beyond, int(group.desired_capacity or 0)
        if count < desired and not suspended(group, "Launch"):
            if self.world.now >= self._retry.get(group.name, -math.inf):
                self.launch_missing(group)
        elif count > desired and not suspended(group, "Terminate"):
            self._shrink(group, count, desired)

    def live(self, group: Any) -> list[GroupInstance]:
        """The members that count for the group's capacity."""
        return [m for m in group.instance_states if m.live]

    def launch_missing(self, group: Any) -> None:
        """Launch what is missing, spot and on demand by the group's policy; what EC2 refuses is tried again later."""
        members = [m for m in self.live(group) if m.replaces is None]
        want = split(int(group.desired_capacity), group.mixed_instances_policy)
        missing = int(group.desired_capacity) - len(members)
        spot = sum(m.spot for m in members)
        on_demand_needed = min(missing, max(0, want.on_demand - (len(members) - spot)))
        refused = False
        before = len(members)
        for is_spot, count in ((False, on_demand_needed), (True, missing - on_demand_needed)):
            for _ in range(count):
                cause = (
                    "an instance was started in response to a difference between desired and actual capacity, "
                    f"increasing the capacity from {before} to {int(group.desired_capacity)}."
                )
                if self.launch(group, spot=is_spot, cause=cause) is None:
                    refused = True
                    break
        if refused:
            self._retry[group.name] = self.world.now + RETRIES_AFTER_SECONDS
            self._plan(group, RETRIES_AFTER_SECONDS)

    def launch(self, group: Any, *, spot: bool, cause: str, zones: list[str] | None = None) -> GroupInstance | None:
        """Start one instance, the emptiest zone and the preferred type first. None where EC2 has none anywhere."""
        template = launch_template(group)
        version = template.get_version(group.launch_template_version)
        types = instance_types(group.mixed_instances_policy, version.instance_type)
        if not group.mixed_instances_policy and (version.data.get("InstanceMarketOptions") or {}).get("MarketType"):
            spot = True
        subnets = {s.availability_zone: s.id for s in reversed(self._subnets(group))}
        counts = Counter(m.availability_zone for m in self.live(group))
        for zone in zones or zones_by_need(group.availability_zones, counts):
            for type_ in types:
                if self.world.has_capacity(group.name, type_, zone, spot=spot):
                    return self._start(group, version, type_, zone, subnets.get(zone), spot=spot, cause=cause)
            self._refuse(group, types, zone, subnets.get(zone), spot=spot, cause=cause)
        return None

    def _refuse(
        self, group: Any, types: tuple[str, ...], zone: str, subnet: str | None, *, spot: bool, cause: str
    ) -> None:
        if spot:
            why = (
                "Could not launch Spot Instances. InsufficientInstanceCapacity - There is no Spot capacity available "
                "that matches your request. Launching EC2 instance failed."
            )
        else:
            why = (
                f"Could not launch On-Demand Instances. InsufficientInstanceCapacity - We currently "
                f"do not have sufficient "
                f"{types[-1]} capacity in the Availability Zone you requested ({zone}). Our system will be working on "
                f"provisioning additional capacity. Launching EC2 instance failed."
            )
        activity = self.activities.begin(group, "Launching a new EC2 instance", cause, subnet=subnet, zone=zone)
        self.activities.end(activity, "Failed", why)

    def _start(
        self, group: Any, version: Any, type_: str, zone: str, subnet: str | None, *, spot: bool, cause: str
    ) -> GroupInstance:
        # Every call draws a request id from moto's chance; an instance's id is to hang on its group and turn alone.
        self._launches[group.name] += 1
        mock_random.seed(f"{self.world.seed}/{group.name}/{self._launches[group.name]}")
        instance = run_instance(group, version, type_, zone, subnet, spot=spot)
        member = GroupInstance(
            instance,
            group,
            version.number,
            self.world.now,
            protected=bool(group.new_instances_protected_from_scale_in),
        )
        group.instance_states.append(member)
        self.members[member.instance_id] = member
        self.group_of[member.instance_id] = group.name
        member.activity = self.activities.begin(
            group, f"Launching a new EC2 instance: {instance.id}", cause, subnet=subnet, zone=zone
        )
        member.activity.progress = 30
        self.tell(member, Change.LAUNCHED)
        launch = Launch(instance.id, group.name, type_, zone, spot, self.world.now)
        seconds = self.world.boots_in(launch)
        if seconds is not None and math.isfinite(seconds):
            self.world.after(max(seconds, RUNS_AFTER_SECONDS), lambda: self.begins_to_answer(member))
        self.world.after(RUNS_AFTER_SECONDS, lambda: self._runs(member))
        return member

    # -- from launch to service -------------------------------------------------------------------------------------

    def _runs(self, member: GroupInstance) -> None:
        if member.lifecycle_state != "Pending":
            return
        group = member.auto_scaling_group
        if self.hooks.begin(group, member.instance_id, LAUNCHING, lambda why: self._hooked(member, why)):
            member.lifecycle_state = "Pending:Wait"
            if member.activity:
                member.activity.status_code, member.activity.progress = "MidLifecycleAction", 60
            if member.answers:
                self.hooks.complete_all(member.instance_id, CONTINUE)
        else:
            self._proceed(member)

    def begins_to_answer(self, member: GroupInstance) -> None:
        """The model is loaded: the instance's own agent completes the launching hook, health checks pass."""
        if not member.live:
            return
        member.answers = True
        self.tell(member, Change.ANSWERS)
        if member.lifecycle_state == "Pending:Wait":
            self.hooks.complete_all(member.instance_id, CONTINUE)
        self.targets.reconsider(member.instance_id)

    def ceases_to_answer(self, member: GroupInstance) -> None:
        """Health checks fail from now on."""
        member.answers = False
        self.targets.reconsider(member.instance_id)

    def _hooked(self, member: GroupInstance, abandoned: str | None) -> None:
        if abandoned is None:
            self._proceed(member)
            return
        if member.activity:
            self.activities.end(
                member.activity, "Cancelled", f"Instance failed to complete user's Lifecycle Action: {abandoned}"
            )
            member.activity = None
        self.terminate(member, "an instance was taken out of service in response to an abandoned lifecycle action.")
        self._plan(member.auto_scaling_group, ACTS_AFTER_SECONDS)

    def _proceed(self, member: GroupInstance) -> None:
        group = member.auto_scaling_group
        member.lifecycle_state = "Pending:Proceed"
        if not suspended(group, "AddToLoadBalancer"):
            self.register(group, member)
        member.lifecycle_state = "InService"
        member.in_service_at = self.world.now
        if member.activity:
            self.activities.end(member.activity)
            member.activity = None
        self._take_over(member)
        grace = float(group.health_check_grace_period or 0)
        self.world.after(grace, lambda: self._check_health(member))
        self._plan(group, ACTS_AFTER_SECONDS)

    def _take_over(self, member: GroupInstance) -> None:
        """A replacement in service, and healthy at the load balancer, lets the one that it replaces go."""
        if member.replaces is None or member.lifecycle_state != "InService":
            return
        if any(target.state != HEALTHY for target in self.targets.of(member.instance_id)):
            return
        old, member.replaces = member.replaces, None
        if old.live:
            cause = f"an instance was taken out of service in response to its replacement {member.instance_id}."
            self.terminate(old, cause)

    def register(self, group: Any, member: GroupInstance) -> None:
        """Register a member at all target groups of its group."""
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
            self.tell(member, Change.HEALTHY)
            self._take_over(member)
        elif state == UNHEALTHY:
            self.tell(member, Change.UNHEALTHY)
            self._check_health(member)

    def _check_health(self, member: GroupInstance) -> None:
        """Replace what is unhealthy, once its grace period is over."""
        group = member.auto_scaling_group
        if member.lifecycle_state != "InService" or suspended(group, "HealthCheck"):
            return
        grace_over = self.world.now >= (member.in_service_at or 0) + float(group.health_check_grace_period or 0)
        by_balancer = "ELB" in (group.health_check_type or "") and any(
            self.targets.state(arn, member.instance_id) == UNHEALTHY for arn in group.target_group_arns
        )
        if grace_over and by_balancer:
            self.unhealthy(member, "an ELB system health check failure")

    def unhealthy(self, member: GroupInstance, what: str) -> None:
        """The member failed a health check: it goes, and the group makes it up."""
        member.health_status = "Unhealthy"
        if suspended(member.auto_scaling_group, "ReplaceUnhealthy"):
            return
        self.terminate(member, f"an instance was taken out of service in response to {what}.")
        self._plan(member.auto_scaling_group, ACTS_AFTER_SECONDS)

    # -- from service to the end ------------------------------------------------------------------------------------

    def _shrink(self, group: Any, count: int, desired: int) -> None:
        members = {m.instance_id: m for m in self.live(group)}
        candidates = [
            Candidate(
                m.instance_id, m.availability_zone, m.spot, m.launched_at, m.version, bool(m.protected_from_scale_in)
            )
            for m in members.values()
        ]
        want: Split = split(desired, group.mixed_instances_policy)
        for instance_id in choose(candidates, count - desired, want, group.termination_policies):
            cause = (
                "an instance was taken out of service in response to a difference between desired and actual capacity, "
                f"shrinking the capacity from {count} to {desired}."
            )
            self.terminate(members[instance_id], cause)

    def terminate(self, member: GroupInstance, cause: str) -> Activity:
        """Take a member out of service: deregistered and drained first, then its terminating hooks, then terminated."""
        group = member.auto_scaling_group
        self.hooks.drop(member.instance_id)
        if member.activity:  # it was still launching
            self.activities.end(member.activity, "Cancelled")
            member.activity = None
        was_in_service = member.lifecycle_state in ("InService", "Standby")
        member.lifecycle_state = "Terminating"
        activity = self.activities.begin(
            group,
            f"Terminating EC2 instance: {member.instance_id}",
            cause,
            subnet=member.instance.subnet_id,
            zone=member.availability_zone,
        )
        member.activity = activity
        registered = self.targets.of(member.instance_id)
        if was_in_service:
            self.tell(member, Change.DRAINING)
        if not registered:
            self._drained(member)
            return activity
        activity.status_code, activity.progress = "WaitingForELBConnectionDraining", 50
        left = itertools.count(1)

        def one_drained() -> None:
            if next(left) == len(registered):
                self._drained(member)

        for target in registered:
            target.group.targets.pop(member.instance_id, None)
            self.targets.deregister(target.group, member.instance_id, one_drained)
        return activity

    def _drained(self, member: GroupInstance) -> None:
        if member.lifecycle_state != "Terminating":
            return
        if not self.hooks.begin(
            member.auto_scaling_group, member.instance_id, TERMINATING, lambda _: self._end(member)
        ):
            self._end(member)
            return
        member.lifecycle_state = "Terminating:Wait"
        if member.activity:
            member.activity.status_code, member.activity.progress = "MidTerminatingLifecycleAction", 60
        self._beat(member)
        if member.in_service_at is None:  # it never had a request
            self.world.after(0, lambda: self.load_gone(member.instance_id))
        else:
            seconds = self.world.drains_in(member.instance_id)
            if seconds is not None:
                # Counted from the deregistration, of which the deregistration delay may have passed already.
                began = self.world.now - min(seconds, self._longest_delay(member))
                self.world.at(began + seconds, lambda: self.load_gone(member.instance_id))

    def _beat(self, member: GroupInstance) -> None:
        """The instance's agent sends heartbeats for as long as it drains; one whose engine is dead sends none."""
        if member.lifecycle_state == "Terminating:Wait" and member.answers:
            self.hooks.beat_all(member.instance_id)
            self.world.after(HEARTBEAT_SECONDS, lambda: self._beat(member))

    def _longest_delay(self, member: GroupInstance) -> float:
        group = member.auto_scaling_group
        known = group.autoscaling_backend.elbv2_backend.target_groups
        delays = [
            float(known[arn].attributes.get("deregistration_delay.timeout_seconds", 300))
            for arn in group.target_group_arns
            if arn in known
        ]
        return max(delays, default=0.0)

    def load_gone(self, instance_id: str) -> None:
        """The last request of an instance has ended: its drain is over, and its agent completes the terminating
        hook.
        """
        self.targets.load_gone(instance_id)
        member = self.members.get(instance_id)
        if member is not None and member.lifecycle_state == "Terminating:Wait":
            self.hooks.complete_all(instance_id, CONTINUE)

    def _end(self, member: GroupInstance) -> None:
        member.lifecycle_state = "Terminating:Proceed"
        self._remove(member, Change.GONE)

    def vanish(self, member: GroupInstance, why: str) -> None:
        """The instance was taken away behind the group's back, which finds out by its EC2 health check."""
        if member.instance_id not in self.members:
            return
        self.hooks.drop(member.instance_id)
        group = member.auto_scaling_group
        if not member.lifecycle_state.startswith("Terminating"):
            if member.activity:
                self.activities.end(member.activity, "Cancelled")
            member.activity = self.activities.begin(
                group,
                f"Terminating EC2 instance: {member.instance_id}",
                f"an instance was taken out of service in response to {why}.",
                subnet=member.instance.subnet_id,
                zone=member.availability_zone,
            )
        member.health_status = "Unhealthy"
        self._remove(member, Change.LOST)
        self._plan(group, ACTS_AFTER_SECONDS)

    def _remove(self, member: GroupInstance, change: Change) -> None:
        group = member.auto_scaling_group
        backend = group.autoscaling_backend
        for target in self.targets.of(member.instance_id):
            target.group.targets.pop(member.instance_id, None)
        self.targets.forget(member.instance_id)
        if member.instance.state != "terminated":
            backend.ec2_backend.terminate_instances([member.instance_id])
        member.lifecycle_state = "Terminated"
        group.instance_states = [m for m in group.instance_states if m is not member]
        self.members.pop(member.instance_id, None)
        if member.activity:
            self.activities.end(member.activity)
            member.activity = None
        self.tell(member, change)
        self.world.after(FORGOTTEN_AFTER_SECONDS, lambda: forget_instance(backend.ec2_backend, member.instance_id))
        self._plan(group, ACTS_AFTER_SECONDS)

    def tell(self, member: GroupInstance, change: Change) -> None:
        """Tell the world's watchers what happened to a member."""
        self.world.tell(
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

    def _subnets(self, group: Any) -> list[Any]:
        ids = group.vpc_zone_identifier.split(",") if group.vpc_zone_identifier else []
        known = {s.id: s for s in group.ec2_backend.describe_subnets(subnet_ids=ids)} if ids else {}
        return [known[i] for i in ids if i in known]


def suspended(group: Any, process: str) -> bool:
    """Whether the group's process is suspended."""
    return any(p["ProcessName"] == process for p in group.suspended_processes)


def launch_template(group: Any) -> Any:
    """The group's launch template. Raises ValidationError for a group with a launch configuration: not modelled."""
    if group.ec2_launch_template is None:
        raise ValidationError(f"{group.name}: only groups with a launch template are modelled here")
    return group.ec2_launch_template


def run_instance(group: Any, version: Any, type_: str, zone: str, subnet: str | None, *, spot: bool) -> Any:
    """One EC2 instance as the launch template has it, which moto's own launch only takes a part of."""
    data = version.data
    backend = group.ec2_backend
    interfaces = data.get("NetworkInterfaces") or [{}]
    tags = {**group.get_propagated_tags(), models.ASG_NAME_TAG: group.name, **version.instance_tags}
    options: dict[str, Any] = {}
    if spot:
        options["instance_market_options"] = {"MarketType": "spot"}
        options["lifecycle"] = "spot"
    profile = data.get("IamInstanceProfile") or {}
    reservation = backend.run_instances(
        image_of(data.get("ImageId", ""), group),
        1,
        version.user_data,
        [],
        security_group_ids=list(data.get("SecurityGroupIds") or interfaces[0].get("Groups") or []),
        instance_type=type_,
        is_instance_type_default=False,
        region_name=group.region,
        placement=zone,
        subnet_id=subnet,
        associate_public_ip=bool(interfaces[0].get("AssociatePublicIpAddress", False)),
        tags={"instance": tags},
        launch_template={"LaunchTemplateId": version.template.id, "Version": str(version.number)},
        block_device_mappings=copy.deepcopy(data.get("BlockDeviceMappings") or []),
        metadata_options=copy.deepcopy(data.get("MetadataOptions") or {}),
        ebs_optimized=bool(data.get("EbsOptimized", False)),
        monitoring_state="enabled" if (data.get("Monitoring") or {}).get("Enabled") else "disabled",
        iam_instance_profile=profile.get("Name") or profile.get("Arn"),
        **options,
    )
    instance = reservation.instances[0]
    instance.autoscaling_group = group
    return instance


def image_of(image: str, group: Any) -> str:
    """The AMI that an image id stands for: `resolve:ssm:` names a parameter.

    A public parameter (/aws/service/...) that moto does not carry stands for a made-up AMI of its own.
    Raises ValidationError for any other parameter that does not exist, as EC2 does at launch.
    """
    if not image.startswith("resolve:ssm:"):
        return image
    name = image.removeprefix("resolve:ssm:")
    from moto.ssm.models import ssm_backends

    parameter = ssm_backends[group.account_id][group.region].get_parameter(name)
    if parameter is not None:
        return str(parameter.value)
    if name.startswith("/aws/service/"):
        return "ami-" + hashlib.sha256(name.encode()).hexdigest()[:17]
    raise ValidationError(f"The parameter {name} that the launch template's ImageId names does not exist")


def forget_instance(backend: Any, instance_id: str) -> None:
    """Drop a terminated instance from EC2's list."""
    for key, reservation in list(backend.reservations.items()):
        if any(i.id == instance_id for i in reservation.instances):
            reservation.instances = [i for i in reservation.instances if i.id != instance_id]
            if not reservation.instances:
                del backend.reservations[key]


def mend(lifecycle: Lifecycle, patches: Patches) -> None:
    """Let the groups' instances live in virtual time."""
    group, backend, response = models.FakeAutoScalingGroup, models.AutoScalingBackend, responses.AutoScalingResponse

    def set_desired_capacity(self: Any, new_capacity: int | None) -> None:
        self.desired_capacity = self.min_size if new_capacity is None else new_capacity
        if self.name in self.autoscaling_backend.autoscaling_groups:
            lifecycle.wants(self)

    def create_auto_scaling_group(self: Any, **request: Any) -> Any:
        if request["name"] in self.autoscaling_groups:
            raise AutoscalingClientError(
                "AlreadyExists", "AutoScalingGroup by this name already exists - A group with the name already exists"
            )
        created = moto_create(self, **request)
        lifecycle.wants(created)
        return created

    def update_attached_target_groups(self: Any, group_name: str) -> None:
        known = self.autoscaling_groups[group_name]
        self.elbv2_backend.describe_target_groups(
            target_group_arns=known.target_group_arns, load_balancer_arn=None, names=None
        ) if known.target_group_arns else None
        for member in known.instance_states:
            if member.lifecycle_state == "InService":
                lifecycle.register(known, member)

    def delete_auto_scaling_group(self: Any, group_name: str) -> None:
        known = self.autoscaling_groups.get(group_name)
        if known is None:
            raise ValidationError(f"AutoScalingGroup name not found - AutoScalingGroup '{group_name}' not found")
        known.desired_capacity = known.min_size = 0
        for member in list(known.instance_states):
            lifecycle.hooks.drop(member.instance_id)
            lifecycle._remove(member, Change.GONE)  # noqa: SLF001 ForceDelete: no drain, no hooks
        del self.autoscaling_groups[group_name]
        self.lifecycle_hooks = {
            k: h for k, h in self.lifecycle_hooks.items() if h.auto_scaling_group_name != group_name
        }

    def delete_response(self: Any) -> ActionResult:
        name = self._get_param("AutoScalingGroupName")
        known = self.autoscaling_backend.autoscaling_groups.get(name)
        if known is not None and known.instance_states and not self._get_bool_param("ForceDelete"):
            raise AutoscalingClientError(
                "ResourceInUse",
                "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) "
                "still in the group.",
            )
        return moto_delete(self)

    def notify_terminate_instances(self: Any, instance_ids: list[str]) -> None:
        for instance_id in instance_ids:
            member = lifecycle.members.get(instance_id)
            if member is not None:
                lifecycle.vanish(member, "an EC2 health check that indicated it has been terminated or stopped")

    def terminate_instance(self: Any, instance_id: str, should_decrement: bool) -> Activity:  # noqa: FBT001 moto's own
        member = lifecycle.members.get(instance_id)
        if member is None or not (member.live or member.lifecycle_state == "Standby"):
            raise ValidationError(f"Instance Id not found - No managed instance found for instance ID: {instance_id}")
        known = member.auto_scaling_group
        before = int(known.desired_capacity)
        if should_decrement:
            if before - 1 < int(known.min_size):
                raise ValidationError(
                    f"Currently, desiredSize equals minSize ({known.min_size}). Terminating instance without "
                    "replacement will violate group's min size constraint. Either set shouldDecrementDesiredCapacity "
                    "flag to false or lower group's min size."
                )
            known.desired_capacity = before - 1
        cause = "instance was taken out of service in response to a user request"
        cause += f", shrinking the capacity from {before} to {before - 1}." if should_decrement else "."
        activity = lifecycle.terminate(member, cause)
        lifecycle._plan(known, ACTS_AFTER_SECONDS)  # noqa: SLF001 the rest of this module is one unit with it
        return activity

    def set_instance_health(self: Any, instance_id: str, health_status: str) -> None:
        member = lifecycle.members.get(instance_id)
        if member is None:
            raise ValidationError(f"Instance Id not found - No managed instance found for instance ID: {instance_id}")
        member.health_status = health_status
        if health_status == "Unhealthy" and member.lifecycle_state == "InService":
            lifecycle.unhealthy(member, "a user health-check")

    def detach_instances(self: Any, group_name: str, instance_ids: list[str], should_decrement: bool) -> list[Any]:  # noqa: FBT001 moto's own
        known = self.autoscaling_groups[group_name]
        leaving = [m for m in known.instance_states if m.instance_id in instance_ids]
        for member in leaving:
            for target in lifecycle.targets.of(member.instance_id):
                target.group.targets.pop(member.instance_id, None)
                lifecycle.targets.deregister(target.group, member.instance_id)
            lifecycle.members.pop(member.instance_id, None)
        return moto_detach(self, group_name, instance_ids, should_decrement)

    moto_create = patches.put(backend, "create_auto_scaling_group", create_auto_scaling_group)
    moto_delete = patches.put(response, "delete_auto_scaling_group", delete_response)
    moto_detach = patches.put(backend, "detach_instances", detach_instances)
    patches.put(group, "set_desired_capacity", set_desired_capacity)
    patches.put(backend, "update_attached_target_groups", update_attached_target_groups)
    patches.put(backend, "delete_auto_scaling_group", delete_auto_scaling_group)
    patches.put(backend, "notify_terminate_instances", notify_terminate_instances)
    patches.put(backend, "terminate_instance", terminate_instance)
    patches.put(backend, "set_instance_health", set_instance_health)
