"""One pool: a launch template and an Auto Scaling group, which for inference fills a target group."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from gpu_fleet.config import naming
from gpu_fleet.config.model_weights import WeightsPlace
from gpu_fleet.config.settings import BootOptions, Container, PoolSettings, WeightsLoad
from gpu_fleet.scaling.policy import Policy, VerticalMethod, Workload
from infra.target_group import deregistration_seconds
from infra.user_data import LAUNCHING_HOOK, TERMINATING_HOOK, Surroundings, boot_settings, render_user_data

GROUP_METRICS = (
    aws.autoscaling.Metric.GROUP_DESIRED_CAPACITY,
    aws.autoscaling.Metric.GROUP_IN_SERVICE_INSTANCES,
    aws.autoscaling.Metric.GROUP_PENDING_INSTANCES,
    aws.autoscaling.Metric.GROUP_TERMINATING_INSTANCES,
    aws.autoscaling.Metric.GROUP_TOTAL_INSTANCES,
)


@dataclass(frozen=True, slots=True)
class GpuPoolArgs:
    """What a pool needs from its service and its stack."""

    settings: PoolSettings
    policy: Policy
    container: Container
    boot: BootOptions
    pulled_image: pulumi.Input[str]
    """The container's image as instances pull it."""
    weights: pulumi.Input[WeightsPlace | None]
    """Where the weights are in S3, if they are."""
    ami_parameter: pulumi.Input[str]
    """SSM parameter with the id of the AMI that instances launch: the pool's own, or of the service's baked AMI."""
    region: str
    vpc_id: pulumi.Input[str]
    target_group: aws.lb.TargetGroup | None
    """None for training, which serves no requests."""
    needed_to_drain: Sequence[pulumi.Resource]
    """What instances need until their last request: the rule and listener that bring it, their rights, their way out.
    The group depends on these resources, so that AWS deletes the group before them."""
    subnet_ids: Sequence[pulumi.Input[str]]
    security_group_id: pulumi.Input[str]
    instance_profile_arn: pulumi.Input[str]
    log_group: pulumi.Input[str]
    queue_url: pulumi.Input[str] | None
    idle_timeout_seconds: int
    """Of the load balancer."""
    tags: Mapping[str, str]

    @property
    def training(self) -> bool:
        """Whether the pool runs jobs instead of serving requests."""
        return self.policy.workload is Workload.TRAINING

    @property
    def containers_use_the_role(self) -> bool:
        """Whether containers use the instance's role: to take jobs, to read weights, or as the user says."""
        weights = self.boot.weights
        streams = weights is not None and weights.load is WeightsLoad.STREAM
        return self.training or streams or self.container.uses_instance_role


def root_device(ami_parameter: str) -> str:
    """Return the name of an AMI's root device: /dev/xvda for Amazon Linux, /dev/sda1 for Ubuntu.

    With the wrong name an instance would get a second, empty volume beside a small root.
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html
    """
    return "/dev/xvda" if "amazon-linux" in ami_parameter or "/al2023" in ami_parameter else "/dev/sda1"


def owned_by_the_scaler(policy: Policy) -> list[str]:
    """Return the properties of a group that `pulumi up` ignores.

    Nested names are the engine's own, in camelCase. Python's names would silently match nothing.
    """
    paths = [
        "desiredCapacity",
        # The scaler replaces spot instances that do not come by on-demand instances.
        "mixedInstancesPolicy.instancesDistribution.onDemandBaseCapacity",
        # AWS reads these at creation only; the LifecycleHook resources of the same names make later changes.
        "initialLifecycleHooks",
    ]
    if policy.vertical.method is VerticalMethod.IN_PLACE:
        paths.append("mixedInstancesPolicy.launchTemplate.overrides")
    return paths


def delete_timeout_seconds(policy: Policy) -> int:
    """Return how long the deletion of a group may take: the load balancer lets requests finish
    (`deregistration_seconds`), the terminating hook lets the instance drain, and AWS needs some minutes on top.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html
    """
    return int(policy.horizontal.busy_max_drain_seconds) + deregistration_seconds(policy) + 900


def lifecycle_hooks(policy: Policy) -> Mapping[str, Mapping[str, Any]]:
    """Return the properties of a group's lifecycle hooks by name.

    An instance that sends no heartbeat for so long is dead: its launch is abandoned and tried anew, its drain is ended.
    Heartbeats keep a hook open for 100 times its timeout at most, and 48 hours:
    https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks.html
    """
    horizontal = policy.horizontal
    return {
        LAUNCHING_HOOK: {
            "lifecycle_transition": "autoscaling:EC2_INSTANCE_LAUNCHING",
            "heartbeat_timeout": naming.hook_seconds(horizontal.launch_timeout_seconds),
            "default_result": "ABANDON",
        },
        TERMINATING_HOOK: {
            "lifecycle_transition": "autoscaling:EC2_INSTANCE_TERMINATING",
            # A draining instance sends heartbeats: after this much silence it is dead.
            "heartbeat_timeout": naming.hook_seconds(min(horizontal.busy_max_drain_seconds + 60, 600)),
            "default_result": "CONTINUE",
        },
    }


class GpuPool(pulumi.ComponentResource):
    """**Pulumi type** `gpu-fleet:index:GpuPool`. Instances of one GPU class, interchangeable within it."""

    group_name: pulumi.Output[str]
    launch_template_arn: pulumi.Output[str]

    def __init__(self, name: str, args: GpuPoolArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-fleet:index:GpuPool", name, None, opts)
        template = self._make_launch_template(name, args)
        group = self._make_group(name, args, template)
        self._make_hooks(name, args, group)
        self.group_name = group.name
        self.launch_template_arn = template.arn
        self.register_outputs({"group_name": self.group_name})

    def _make_group(self, name: str, args: GpuPoolArgs, template: aws.ec2.LaunchTemplate) -> aws.autoscaling.Group:
        return aws.autoscaling.Group(
            name,
            min_size=args.settings.min,
            max_size=args.settings.max,
            vpc_zone_identifiers=args.subnet_ids,
            mixed_instances_policy=_mixed_instances_policy(args.settings, template),
            target_group_arns=[args.target_group.arn] if args.target_group else [],
            # For inference, AWS also replaces an instance that the load balancer finds unhealthy: its engine is dead.
            health_check_type="EC2" if args.training else "ELB",
            # Short: the launching hook ends only once the model answers, before the instance is in service.
            health_check_grace_period=60,
            default_instance_warmup=0,
            initial_lifecycle_hooks=[
                aws.autoscaling.GroupInitialLifecycleHookArgs(name=hook, **properties)
                for hook, properties in lifecycle_hooks(args.policy).items()
            ],
            # Rebalancing zones would end busy instances and pay for two model loads.
            suspended_processes=["AZRebalance"],
            # A group that chooses which training node to end loses its job. So only the scaler ends nodes, by name,
            # which the protection allows. A group for inference may choose: its hook drains the instance.
            protect_from_scale_in=args.training,
            enabled_metrics=GROUP_METRICS,
            metrics_granularity="1Minute",
            # GPU capacity may be unavailable for hours. The scaler deals with that, not the update.
            wait_for_capacity_timeout="0",
            tags=[
                aws.autoscaling.GroupTagArgs(key=key, value=value, propagate_at_launch=True)
                for key, value in sorted({**args.tags, "Name": name}.items())
            ],
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=args.needed_to_drain,
                ignore_changes=owned_by_the_scaler(args.policy),
                # A group cannot move to another VPC: its target groups cannot.
                replacement_trigger=args.vpc_id,
                custom_timeouts=pulumi.CustomTimeouts(delete=f"{delete_timeout_seconds(args.policy)}s"),
            ),
        )

    def _make_hooks(self, name: str, args: GpuPoolArgs, group: aws.autoscaling.Group) -> None:
        for hook, properties in lifecycle_hooks(args.policy).items():
            aws.autoscaling.LifecycleHook(
                f"{name}-{hook}",
                name=hook,
                autoscaling_group_name=group.name,
                **properties,
                opts=pulumi.ResourceOptions(
                    parent=self,
                    # Users may subscribe their own topic to launches and terminations.
                    ignore_changes=["notificationTargetArn", "roleArn"],
                    # AWS deletes the hook with its group. If it went first, no instance would drain.
                    deleted_with=group,
                ),
            )

    def _make_launch_template(self, name: str, args: GpuPoolArgs) -> aws.ec2.LaunchTemplate:
        return aws.ec2.LaunchTemplate(
            name,
            image_id=pulumi.Output.concat("resolve:ssm:", args.ami_parameter),
            instance_type=args.settings.types[0],
            update_default_version=True,
            instance_initiated_shutdown_behavior="terminate",
            iam_instance_profile=aws.ec2.LaunchTemplateIamInstanceProfileArgs(arn=args.instance_profile_arn),
            metadata_options=aws.ec2.LaunchTemplateMetadataOptionsArgs(
                http_endpoint="enabled",
                http_tokens="required",
                # The container's bridge is one hop, so with a limit of 1 no metadata token reaches the container:
                # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html#imds-considerations
                http_put_response_hop_limit=2 if args.containers_use_the_role else 1,
                # An instance reads the name of its group from its tags.
                instance_metadata_tags="enabled",
            ),
            block_device_mappings=[
                aws.ec2.LaunchTemplateBlockDeviceMappingArgs(
                    device_name=root_device(args.settings.ami_parameter),
                    ebs=aws.ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
                        volume_type="gp3",
                        volume_size=args.settings.volume_gib,
                        iops=args.boot.volume_iops,
                        throughput=args.boot.volume_throughput_mib_per_second,
                        encrypted="true",
                        delete_on_termination="true",
                    ),
                )
            ],
            network_interfaces=[
                aws.ec2.LaunchTemplateNetworkInterfaceArgs(
                    device_index=0,
                    associate_public_ip_address="false",
                    delete_on_termination="true",
                    security_groups=[args.security_group_id],
                )
            ],
            tag_specifications=[
                aws.ec2.LaunchTemplateTagSpecificationArgs(
                    resource_type=resource_type, tags={**args.tags, "Name": name}
                )
                for resource_type in ("instance", "volume")
            ],
            # The template has no tags of its own: some endpoints return them among the specifications above, and every
            # update would then create a version.
            user_data=_user_data(args),
            opts=pulumi.ResourceOptions(parent=self),
        )


def _mixed_instances_policy(
    settings: PoolSettings, template: aws.ec2.LaunchTemplate
) -> aws.autoscaling.GroupMixedInstancesPolicyArgs:
    return aws.autoscaling.GroupMixedInstancesPolicyArgs(
        instances_distribution=aws.autoscaling.GroupMixedInstancesPolicyInstancesDistributionArgs(
            on_demand_allocation_strategy="prioritized",
            on_demand_base_capacity=settings.on_demand_base,
            on_demand_percentage_above_base_capacity=100 - settings.spot_percent,
            spot_allocation_strategy="capacity-optimized-prioritized",
        ),
        launch_template=aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateArgs(
            launch_template_specification=aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateLaunchTemplateSpecificationArgs(
                launch_template_id=template.id, version=template.latest_version.apply(str)
            ),
            overrides=[
                aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateOverrideArgs(instance_type=instance_type)
                for instance_type in settings.types
            ],
        ),
    )


def _user_data(args: GpuPoolArgs) -> pulumi.Output[str]:
    """Return user data in base64."""

    def render(resolved: Sequence[Any]) -> str:
        log_group, queue_url, pulled_image, weights = resolved
        around = Surroundings(
            region=args.region,
            log_group=log_group or "",
            idle_timeout_seconds=args.idle_timeout_seconds,
            queue_url=queue_url,
            weights=weights,
            pulled_image=pulled_image or "",
        )
        boot = boot_settings(args.container, args.boot, args.policy, around)
        return base64.b64encode(render_user_data(boot)).decode()

    return pulumi.Output.all(args.log_group, args.queue_url, args.pulled_image, args.weights).apply(render)
