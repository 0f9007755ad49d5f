"""Operations on groups and their instances run through the instance lifecycle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moto.autoscaling import models
from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError

from gpu_fleet.emulator.cloud_world import Change
from gpu_fleet.emulator.lifelike.difference import Difference, Patches
from gpu_fleet.emulator.lifelike.lifecycle import FAILED_EC2_CHECK, GroupInstance, Lifecycle

if TYPE_CHECKING:
    from gpu_fleet.emulator.lifelike.scaling_activities import Activity

DIFFERENCE = Difference(
    name="operations on groups",
    moto=(
        "launches and terminates instances within the call, may shrink a group below its minimum, replaces a group by "
        "another of the same name, keeps targets of detached and deleted instances, does nothing on resuming a process"
    ),
    aws=(
        "answers at once and acts afterwards; a termination that would violate the minimum size is a ValidationError, "
        "a second group of one name is AlreadyExists; ForceDelete terminates instances without lifecycle actions; "
        "an instance reported unhealthy or terminated in EC2 is replaced; a suspended Launch launches nothing, and the "
        "group makes up for it once it is resumed"
    ),
    source=(
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_CreateAutoScalingGroup.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DeleteAutoScalingGroup.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_TerminateInstanceInAutoScalingGroup.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_SetInstanceHealth.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DetachInstances.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-suspend-resume-processes.html"
    ),
)


def patch_moto(lifecycle: Lifecycle, patches: Patches) -> None:
    """Route moto's operations to the lifecycle."""
    operations = GroupOperations(lifecycle)
    patches.wrap(models.FakeAutoScalingGroup, "set_desired_capacity", operations.set_desired_capacity)
    backend = models.AutoScalingBackend
    patches.wrap(backend, "create_auto_scaling_group", operations.create_auto_scaling_group)
    patches.wrap(backend, "delete_auto_scaling_group", operations.delete_auto_scaling_group)
    patches.wrap(backend, "update_attached_target_groups", operations.update_attached_target_groups)
    patches.wrap(backend, "notify_terminate_instances", operations.notify_terminate_instances)
    patches.wrap(backend, "terminate_instance", operations.terminate_instance)
    patches.wrap(backend, "set_instance_health", operations.set_instance_health)
    patches.wrap(backend, "detach_instances", operations.detach_instances)
    patches.wrap(backend, "resume_processes", operations.resume_processes)


class GroupOperations:
    """The replacements of moto's methods of the same names."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        """Act on the instances of this lifecycle."""
        self._lifecycle = lifecycle

    def set_desired_capacity(self, _moto: Any, group: Any, new_capacity: int | None) -> None:
        """Set the desired capacity, by default the minimum, and act on it later."""
        group.desired_capacity = group.min_size if new_capacity is None else new_capacity
        if group.name in group.autoscaling_backend.autoscaling_groups:
            self._lifecycle.capacity_changed(group)

    def create_auto_scaling_group(self, moto: Any, backend: Any, **request: Any) -> Any:
        """Create a group under a new name."""
        if request["name"] in backend.autoscaling_groups:
            raise AutoscalingClientError(
                "AlreadyExists", "AutoScalingGroup by this name already exists - A group with the name already exists"
            )
        group = moto(backend, **request)
        self._lifecycle.capacity_changed(group)
        return group

    def delete_auto_scaling_group(self, _moto: Any, backend: Any, group_name: str) -> None:
        """Delete a group, its hooks and its instances, as ForceDelete does: no drain, no lifecycle actions."""
        group = backend.autoscaling_groups.get(group_name)
        if group is None:
            raise ValidationError(f"AutoScalingGroup name not found - AutoScalingGroup '{group_name}' not found")
        group.desired_capacity = group.min_size = 0
        for member in list(group.instance_states):
            self._lifecycle.actions.forget(member.instance_id)
            self._lifecycle.remove(member, Change.GONE)
        del backend.autoscaling_groups[group_name]
        backend.lifecycle_hooks = {
            key: hook for key, hook in backend.lifecycle_hooks.items() if hook.auto_scaling_group_name != group_name
        }

    def update_attached_target_groups(self, _moto: Any, backend: Any, group_name: str) -> None:
        """Register the instances in service at the group's target groups, which must exist."""
        group = backend.autoscaling_groups[group_name]
        if group.target_group_arns:
            backend.elbv2_backend.describe_target_groups(
                target_group_arns=group.target_group_arns, load_balancer_arn=None, names=None
            )
        for member in group.instance_states:
            if member.lifecycle_state == "InService":
                self._lifecycle.register(group, member)

    def notify_terminate_instances(self, _moto: Any, _backend: Any, instance_ids: list[str]) -> None:
        """Lose the instances that EC2 terminated behind their group's back."""
        for instance_id in instance_ids:
            member = self._lifecycle.members.get(instance_id)
            if member is not None:
                self._lifecycle.lose(member, FAILED_EC2_CHECK)

    def terminate_instance(self, _moto: Any, _backend: Any, instance_id: str, should_decrement: bool) -> Activity:  # noqa: FBT001 moto's own
        """Terminate an instance of a group, and shrink the group with it if asked."""
        member = self._member(instance_id)
        if not (member.live or member.lifecycle_state == "Standby"):
            raise _unknown(instance_id)
        group = member.auto_scaling_group
        before = int(group.desired_capacity)
        cause = "instance was taken out of service in response to a user request"
        if should_decrement:
            if before - 1 < int(group.min_size):
                raise ValidationError(
                    f"Currently, desiredSize equals minSize ({group.min_size}). Terminating instance without "
                    "replacement will violate group's min size constraint. Either set shouldDecrementDesiredCapacity "
                    "flag to false or lower group's min size."
                )
            group.desired_capacity = before - 1
            cause += f", shrinking the capacity from {before} to {before - 1}"
        activity = self._lifecycle.terminate(member, f"{cause}.")
        self._lifecycle.reconcile_later(group)
        return activity

    def set_instance_health(self, _moto: Any, _backend: Any, instance_id: str, health_status: str) -> None:
        """Record the health status that a user reports; an unhealthy instance in service is replaced."""
        member = self._member(instance_id)
        member.health_status = health_status
        if health_status == "Unhealthy" and member.lifecycle_state == "InService":
            self._lifecycle.replace_unhealthy(member, "a user health-check")

    def detach_instances(
        self,
        moto: Any,
        backend: Any,
        group_name: str,
        instance_ids: list[str],
        should_decrement: bool,  # noqa: FBT001
    ) -> list[Any]:
        """Detach instances: deregister their targets and drop them from the lifecycle."""
        for member in backend.autoscaling_groups[group_name].instance_states:
            if member.instance_id not in instance_ids:
                continue
            for target in self._lifecycle.targets.of(member.instance_id):
                target.group.targets.pop(member.instance_id, None)
                self._lifecycle.targets.deregister(target.group, member.instance_id)
            self._lifecycle.members.pop(member.instance_id, None)
        return moto(backend, group_name, instance_ids, should_decrement)

    def resume_processes(self, moto: Any, backend: Any, group_name: str, scaling_processes: list[str]) -> None:
        """Resume processes, and act on what was to be done meanwhile."""
        moto(backend, group_name, scaling_processes)
        self._lifecycle.capacity_changed(backend.autoscaling_groups[group_name])

    def _member(self, instance_id: str) -> GroupInstance:
        member = self._lifecycle.members.get(instance_id)
        if member is None:
            raise _unknown(instance_id)
        return member


def _unknown(instance_id: str) -> ValidationError:
    return ValidationError(f"Instance Id not found - No managed instance found for instance ID: {instance_id}")
