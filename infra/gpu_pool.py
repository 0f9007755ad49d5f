"""One pool: a launch template and an Auto Scaling group, which for inference fills a target group."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from gpu_fleet.config import naming
from gpu_fleet.config.settings import Container, PoolSettings
from gpu_fleet.scaling.policy import Policy, VerticalMethod, Workload
from infra.target_group import deregistration_seconds
from infra.user_data import LAUNCHING_HOOK, TERMINATING_HOOK, boot, user_data

MEASURED_OF_GROUPS = (
    aws.autoscaling.Metric.GROUP_DESIRED_CAPACITY,
    aws.autoscaling.Metric.GROUP_IN_SERVICE_INSTANCES,
    aws.autoscaling.Metric.GROUP_PENDING_INSTANCES,
    aws.autoscaling.Metric.GROUP_TERMINATING_INSTANCES,
    aws.autoscaling.Metric.GROUP_TOTAL_INSTANCES,
)


@dataclass(frozen=True, slots=True)
class GpuPoolArgs:
    """What a pool needs of its service and its stack."""

    settings: PoolSettings
    policy: Policy
    container: Container
    region: str
    vpc_id: pulumi.Input[str]
    target_group: aws.lb.TargetGroup | None
    """None for training, which serves no requests."""
    needed_to_drain: Sequence[pulumi.Resource]
    """What instances need until their last request: the rule and listener that bring it, their rights, their way out.
    The group stands on them, so that it is gone before they go."""
    subnet_ids: Sequence[pulumi.Input[str]]
    security_group_id: pulumi.Input[str]
    instance_profile_arn: pulumi.Input[str]
    log_group: pulumi.Input[str]
    queue_url: pulumi.Input[str] | None
    idle_timeout_seconds: int
    """Of the load balancer."""
    tags: Mapping[str, str]


def root_device(ami_parameter: str) -> str:
    """Name of an AMI's root device: /dev/xvda for Amazon Linux, /dev/sda1 for Ubuntu.

    With the wrong one an instance would get a second, empty volume beside a small root.
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html
    """
    return "/dev/xvda" if "amazon-linux" in ami_parameter or "/al2023" in ami_parameter else "/dev/sda1"


def owned_by_the_scaler(policy: Policy) -> list[str]:
    """What `pulumi up` leaves alone in a group.

    Nested names are the engine's own, in camelCase: Python's would match nothing, and nothing would say so.
    """
    paths = [
        "desiredCapacity",
        # Spot that does not come is made up by on-demand.
        "mixedInstancesPolicy.instancesDistribution.onDemandBaseCapacity",
        # Read at creation alone; later changes are made by the hooks of the same name.
        "initialLifecycleHooks",
    ]
    if policy.vertical.method is VerticalMethod.IN_PLACE:
        paths.append("mixedInstancesPolicy.launchTemplate.overrides")
    return paths


def longest_end_seconds(policy: Policy) -> int:
    """How long the end of a group may take: the load balancer lets requests finish (`deregistration_seconds`), then the
    terminating hook lets the instance drain, and AWS needs some minutes beside them.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html
    """
    return int(policy.horizontal.busy_max_drain_seconds) + deregistration_seconds(policy) + 900


class GpuPool(pulumi.ComponentResource):
    """**Pulumi type** `gpu-fleet:index:GpuPool`. Instances of one GPU class, interchangeable within it."""

    group_name: pulumi.Output[str]
    launch_template_arn: pulumi.Output[str]

    def __init__(self, name: str, args: GpuPoolArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-fleet:index:GpuPool", name, None, opts)
        training = args.policy.workload is Workload.TRAINING
        drain_seconds = args.policy.horizontal.busy_max_drain_seconds
        template = self._make_launch_template(name, args)

        # A launch that does not answer in time is given up and made anew; a drain that takes too long is ended.
        launching = {
            "lifecycle_transition": "autoscaling:EC2_INSTANCE_LAUNCHING",
            "heartbeat_timeout": naming.hook_seconds(args.policy.horizontal.launch_timeout_seconds),
            "default_result": "ABANDON",
        }
        terminating = {
            "lifecycle_transition": "autoscaling:EC2_INSTANCE_TERMINATING",
            # The instance sends heartbeats while it drains: this much silence means that it is dead.
            "heartbeat_timeout": naming.hook_seconds(min(drain_seconds + 60, 600)),
            "default_result": "CONTINUE",
        }
        hooks = {LAUNCHING_HOOK: launching, TERMINATING_HOOK: terminating}
        group = aws.autoscaling.Group(
            name,
            min_size=args.settings.min,
            max_size=args.settings.max,
            vpc_zone_identifiers=args.subnet_ids,
            mixed_instances_policy=aws.autoscaling.GroupMixedInstancesPolicyArgs(
                instances_distribution=aws.autoscaling.GroupMixedInstancesPolicyInstancesDistributionArgs(
                    on_demand_allocation_strategy="prioritized",
                    on_demand_base_capacity=args.settings.on_demand_base,
                    on_demand_percentage_above_base_capacity=100 - args.settings.spot_percent,
                    spot_allocation_strategy="capacity-optimized-prioritized",
                ),
                launch_template=aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateArgs(
                    launch_template_specification=aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateLaunchTemplateSpecificationArgs(
                        launch_template_id=template.id, version=template.latest_version.apply(str)
                    ),
                    overrides=[
                        aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateOverrideArgs(instance_type=kind)
                        for kind in args.settings.types
                    ],
                ),
            ),
            target_group_arns=[args.target_group.arn] if args.target_group else [],
            # The load balancer's word counts as well: an engine that no longer answers is replaced.
            health_check_type="EC2" if training else "ELB",
            # The launching hook has seen the model answer before an instance is in service.
            health_check_grace_period=60,
            default_instance_warmup=0,
            initial_lifecycle_hooks=[
                aws.autoscaling.GroupInitialLifecycleHookArgs(name=hook, **values) for hook, values in hooks.items()
            ],
            # Moving instances between zones for symmetry would end busy ones and pay for two model loads.
            suspended_processes=["AZRebalance"],
            # A job is lost when a group picks its node: there only the scaler takes instances, by name, and that is
            # allowed in spite of the protection. A group of inference may pick: its hook drains.
            protect_from_scale_in=training,
            enabled_metrics=MEASURED_OF_GROUPS,
            metrics_granularity="1Minute",
            # GPU capacity may be missing for hours; whether instances come is the scaler's business.
            wait_for_capacity_timeout="0",
            tags=[
                aws.autoscaling.GroupTagArgs(key=key, value=value, propagate_at_launch=True)
                for key, value in sorted({**args.tags, "Name": name}.items())
            ],
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=args.needed_to_drain,
                ignore_changes=owned_by_the_scaler(args.policy),
                # No group moves to another VPC: its target groups stay behind.
                replacement_trigger=args.vpc_id,
                custom_timeouts=pulumi.CustomTimeouts(delete=f"{longest_end_seconds(args.policy)}s"),
            ),
        )
        for hook, values in hooks.items():
            aws.autoscaling.LifecycleHook(
                f"{name}-{hook}",
                name=hook,
                autoscaling_group_name=group.name,
                **values,
                opts=pulumi.ResourceOptions(
                    parent=self,
                    # Whoever wants to be told of launches and ends may wire that up: it is left alone.
                    ignore_changes=["notificationTargetArn", "roleArn"],
                    # It ends with its group. Deleted before it, nothing would drain.
                    deleted_with=group,
                ),
            )
        self.group_name = group.name
        self.launch_template_arn = template.arn
        self.register_outputs({"group_name": self.group_name})

    def _make_launch_template(self, name: str, args: GpuPoolArgs) -> aws.ec2.LaunchTemplate:
        training = args.policy.workload is Workload.TRAINING

        def script(got: Sequence[str | None]) -> str:
            log_group, queue_url = got
            told = boot(
                args.container,
                args.policy,
                region=args.region,
                idle_timeout_seconds=args.idle_timeout_seconds,
                log_group=log_group or "",
                queue_url=queue_url,
            )
            return base64.b64encode(user_data(told).encode()).decode()

        return aws.ec2.LaunchTemplate(
            name,
            image_id=f"resolve:ssm:{args.settings.ami_parameter}",
            instance_type=args.settings.types[0],
            update_default_version=True,
            instance_initiated_shutdown_behavior="terminate",
            iam_instance_profile=aws.ec2.LaunchTemplateIamInstanceProfileArgs(arn=args.instance_profile_arn),
            metadata_options=aws.ec2.LaunchTemplateMetadataOptionsArgs(
                http_endpoint="enabled",
                http_tokens="required",
                # The container's bridge is a hop more, so with 1 no token for the metadata reaches the container:
                # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html#imds-considerations
                http_put_response_hop_limit=2 if training or args.container.uses_instance_role else 1,
                # Where an instance reads the name of its group.
                instance_metadata_tags="enabled",
            ),
            block_device_mappings=[
                aws.ec2.LaunchTemplateBlockDeviceMappingArgs(
                    device_name=root_device(args.settings.ami_parameter),
                    ebs=aws.ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
                        volume_type="gp3",
                        volume_size=args.settings.volume_gib,
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
                aws.ec2.LaunchTemplateTagSpecificationArgs(resource_type=kind, tags={**args.tags, "Name": name})
                for kind in ("instance", "volume")
            ],
            # No tags of its own: where they read back among the specifications above, each update would make a version.
            user_data=pulumi.Output.all(args.log_group, args.queue_url).apply(script),
            opts=pulumi.ResourceOptions(parent=self),
        )
