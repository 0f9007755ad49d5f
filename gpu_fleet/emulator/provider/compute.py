"""Launch templates, Auto Scaling groups, their hooks and policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpu_fleet.emulator.provider.registry import (
    MadeResource,
    MotoAccount,
    Resource,
    makes,
    pascal_case,
    tag_specification,
    to_bool,
    to_int,
    without_none,
)


@makes("aws:ec2/launchTemplate:LaunchTemplate", longest_name=128, no_effect=("updateDefaultVersion", "defaultVersion"))
def launch_template(aws: MotoAccount, r: Resource) -> MadeResource:
    """A launch template with its first version."""
    made = aws.client("ec2").create_launch_template(
        LaunchTemplateName=r.physical_name,
        LaunchTemplateData=template_data(r),
        TagSpecifications=tag_specification(r, "launch-template"),
        **without_none(VersionDescription=r.inputs.get("description")),
    )["LaunchTemplate"]
    identity = made["LaunchTemplateId"]
    return identity, {
        "arn": aws.arn("ec2", f"launch-template/{identity}"),
        "latestVersion": 1,
        "defaultVersion": 1,
    }


def template_data(r: Resource) -> dict[str, Any]:
    """Return the LaunchTemplateData of the inputs."""
    i = r.inputs
    market = i.get("instanceMarketOptions")
    return without_none(
        ImageId=i.get("imageId"),
        InstanceType=i.get("instanceType"),
        KeyName=i.get("keyName"),
        UserData=i.get("userData"),
        EbsOptimized=to_bool(i.get("ebsOptimized")),
        InstanceInitiatedShutdownBehavior=i.get("instanceInitiatedShutdownBehavior"),
        DisableApiTermination=i.get("disableApiTermination"),
        SecurityGroupIds=i.get("vpcSecurityGroupIds"),
        IamInstanceProfile=pascal_case(i.get("iamInstanceProfile")),
        Monitoring=pascal_case(i.get("monitoring")),
        Placement=pascal_case(i.get("placement")),
        MaintenanceOptions=pascal_case(i.get("maintenanceOptions")),
        MetadataOptions=_metadata(i["metadataOptions"]) if "metadataOptions" in i else None,
        InstanceMarketOptions=pascal_case(market) if market else None,
        CapacityReservationSpecification=pascal_case(i.get("capacityReservationSpecification")),
        BlockDeviceMappings=[_device(d) for d in i.get("blockDeviceMappings") or []] or None,
        NetworkInterfaces=[_interface(n) for n in i.get("networkInterfaces") or []] or None,
        TagSpecifications=[
            {
                "ResourceType": s["resourceType"],
                "Tags": [{"Key": k, "Value": str(v)} for k, v in sorted((s.get("tags") or {}).items())],
            }
            for s in i.get("tagSpecifications") or []
        ]
        or None,
    )


def _metadata(options: dict[str, Any]) -> dict[str, Any]:
    out = pascal_case(options)
    if "HttpPutResponseHopLimit" in out:
        out["HttpPutResponseHopLimit"] = int(out["HttpPutResponseHopLimit"])
    return out


def _device(device: dict[str, Any]) -> dict[str, Any]:
    ebs = device.get("ebs") or {}
    return without_none(
        DeviceName=device.get("deviceName"),
        VirtualName=device.get("virtualName"),
        NoDevice=device.get("noDevice"),
        Ebs=without_none(
            VolumeSize=to_int(ebs.get("volumeSize")),
            VolumeType=ebs.get("volumeType"),
            Iops=to_int(ebs.get("iops")),
            Throughput=to_int(ebs.get("throughput")),
            KmsKeyId=ebs.get("kmsKeyId"),
            SnapshotId=ebs.get("snapshotId"),
            Encrypted=to_bool(ebs.get("encrypted")),
            DeleteOnTermination=to_bool(ebs.get("deleteOnTermination")),
        )
        or None,
    )


def _interface(interface: dict[str, Any]) -> dict[str, Any]:
    return without_none(
        DeviceIndex=to_int(interface.get("deviceIndex", 0)),
        AssociatePublicIpAddress=to_bool(interface.get("associatePublicIpAddress")),
        DeleteOnTermination=to_bool(interface.get("deleteOnTermination")),
        Groups=interface.get("securityGroups"),
        SubnetId=interface.get("subnetId"),
        Description=interface.get("description"),
        InterfaceType=interface.get("interfaceType"),
        NetworkCardIndex=to_int(interface.get("networkCardIndex")),
    )


def _specification(template: dict[str, Any]) -> dict[str, Any]:
    version = template.get("version")
    return without_none(
        LaunchTemplateId=template.get("launchTemplateId") or template.get("id"),
        LaunchTemplateName=template.get("launchTemplateName") or template.get("name"),
        Version=None if version is None else str(to_int(version) if isinstance(version, float) else version),
    )


def mixed_instances_policy(policy: dict[str, Any]) -> dict[str, Any]:
    """Return the API's MixedInstancesPolicy."""
    template = policy["launchTemplate"]
    distribution = dict(policy.get("instancesDistribution") or {})
    for key in ("onDemandBaseCapacity", "onDemandPercentageAboveBaseCapacity", "spotInstancePools"):
        if distribution.get(key) is not None:
            distribution[key] = int(distribution[key])
    overrides = []
    for override in template.get("overrides") or []:
        out = pascal_case({k: v for k, v in override.items() if k != "launchTemplateSpecification"})
        if override.get("launchTemplateSpecification"):
            out["LaunchTemplateSpecification"] = _specification(override["launchTemplateSpecification"])
        overrides.append(out)
    return without_none(
        LaunchTemplate={
            "LaunchTemplateSpecification": _specification(template["launchTemplateSpecification"]),
            "Overrides": overrides,
        },
        InstancesDistribution=pascal_case(distribution) or None,
    )


@makes(
    "aws:autoscaling/group:Group",
    longest_name=255,
    no_effect=(
        "forceDelete",
        "forceDeleteWarmPool",
        "ignoreFailedScalingActivities",
        "instanceRefresh",
        "metricsGranularity",
        "minElbCapacity",
        "waitForCapacityTimeout",
        "waitForElbCapacity",
    ),
)
def group(aws: MotoAccount, r: Resource) -> MadeResource:
    """An Auto Scaling group. Like the provider's, its initial hooks exist before its first instance."""
    asg, i = aws.client("autoscaling"), r.inputs
    hooks = [{"LifecycleHookName": hook["name"], **_hook(hook)} for hook in i.get("initialLifecycleHooks") or []]
    policy = i.get("mixedInstancesPolicy")
    asg.create_auto_scaling_group(
        AutoScalingGroupName=r.physical_name,
        MinSize=to_int(i["minSize"]),
        MaxSize=to_int(i["maxSize"]),
        **without_none(
            DesiredCapacity=to_int(i.get("desiredCapacity")),
            DesiredCapacityType=i.get("desiredCapacityType"),
            VPCZoneIdentifier=",".join(i.get("vpcZoneIdentifiers") or []) or None,
            AvailabilityZones=i.get("availabilityZones"),
            LaunchTemplate=_specification(i["launchTemplate"]) if "launchTemplate" in i else None,
            MixedInstancesPolicy=mixed_instances_policy(policy) if policy else None,
            TargetGroupARNs=i.get("targetGroupArns"),
            HealthCheckType=i.get("healthCheckType"),
            HealthCheckGracePeriod=to_int(i.get("healthCheckGracePeriod")),
            DefaultCooldown=to_int(i.get("defaultCooldown")),
            DefaultInstanceWarmup=to_int(i.get("defaultInstanceWarmup")),
            TerminationPolicies=i.get("terminationPolicies"),
            CapacityRebalance=i.get("capacityRebalance"),
            MaxInstanceLifetime=to_int(i.get("maxInstanceLifetime")),
            NewInstancesProtectedFromScaleIn=i.get("protectFromScaleIn"),
            PlacementGroup=i.get("placementGroup"),
            ServiceLinkedRoleARN=i.get("serviceLinkedRoleArn"),
            LifecycleHookSpecificationList=hooks or None,
            Tags=[
                {"Key": t["key"], "Value": t["value"], "PropagateAtLaunch": bool(t.get("propagateAtLaunch"))}
                for t in i.get("tags") or []
            ]
            or None,
        ),
    )
    if i.get("suspendedProcesses"):
        asg.suspend_processes(AutoScalingGroupName=r.physical_name, ScalingProcesses=i["suspendedProcesses"])
    if i.get("enabledMetrics"):
        asg.enable_metrics_collection(
            AutoScalingGroupName=r.physical_name, Granularity="1Minute", Metrics=i["enabledMetrics"]
        )
    made = asg.describe_auto_scaling_groups(AutoScalingGroupNames=[r.physical_name])["AutoScalingGroups"][0]
    return r.physical_name, {
        "arn": made["AutoScalingGroupARN"],
        "availabilityZones": made["AvailabilityZones"],
        "desiredCapacity": made["DesiredCapacity"],
        "healthCheckType": made["HealthCheckType"],
        "vpcZoneIdentifiers": i.get("vpcZoneIdentifiers") or [],
        "defaultCooldown": made["DefaultCooldown"],
    }


@makes("aws:autoscaling/lifecycleHook:LifecycleHook")
def lifecycle_hook(aws: MotoAccount, r: Resource) -> MadeResource:
    """A lifecycle hook."""
    i = r.inputs
    aws.client("autoscaling").put_lifecycle_hook(
        LifecycleHookName=r.physical_name,
        AutoScalingGroupName=i["autoscalingGroupName"],
        **_hook(i),
    )
    return r.physical_name, {}


def _hook(hook: Mapping[str, Any]) -> dict[str, Any]:
    return without_none(
        LifecycleTransition=hook["lifecycleTransition"],
        HeartbeatTimeout=to_int(hook.get("heartbeatTimeout")),
        DefaultResult=hook.get("defaultResult"),
        NotificationTargetARN=hook.get("notificationTargetArn"),
        NotificationMetadata=hook.get("notificationMetadata"),
        RoleARN=hook.get("roleArn"),
    )


@makes("aws:autoscaling/policy:Policy")
def scaling_policy(aws: MotoAccount, r: Resource) -> MadeResource:
    """A scaling policy."""
    i = r.inputs
    steps = [
        without_none(
            MetricIntervalLowerBound=_bound(s.get("metricIntervalLowerBound")),
            MetricIntervalUpperBound=_bound(s.get("metricIntervalUpperBound")),
            ScalingAdjustment=to_int(s["scalingAdjustment"]),
        )
        for s in i.get("stepAdjustments") or []
    ]
    made = aws.client("autoscaling").put_scaling_policy(
        AutoScalingGroupName=i["autoscalingGroupName"],
        PolicyName=r.physical_name,
        **without_none(
            PolicyType=i.get("policyType"),
            AdjustmentType=i.get("adjustmentType"),
            MinAdjustmentMagnitude=to_int(i.get("minAdjustmentMagnitude")),
            ScalingAdjustment=to_int(i.get("scalingAdjustment")),
            Cooldown=to_int(i.get("cooldown")),
            MetricAggregationType=i.get("metricAggregationType"),
            EstimatedInstanceWarmup=to_int(i.get("estimatedInstanceWarmup")),
            StepAdjustments=steps or None,
            TargetTrackingConfiguration=pascal_case(i.get("targetTrackingConfiguration")),
            Enabled=i.get("enabled"),
        ),
    )
    return r.physical_name, {"arn": made["PolicyARN"]}


def _bound(value: Any) -> float | None:
    return None if value in (None, "") else float(value)


@makes("aws:autoscaling/schedule:Schedule", named="scheduledActionName")
def schedule(aws: MotoAccount, r: Resource) -> MadeResource:
    """A scheduled action. To the provider -1 means: unchanged."""
    i = r.inputs

    def size(key: str) -> int | None:
        value = to_int(i.get(key))
        return None if value in (None, -1) else value

    aws.client("autoscaling").put_scheduled_update_group_action(
        AutoScalingGroupName=i["autoscalingGroupName"],
        ScheduledActionName=r.physical_name,
        **without_none(
            MinSize=size("minSize"),
            MaxSize=size("maxSize"),
            DesiredCapacity=size("desiredCapacity"),
            Recurrence=i.get("recurrence"),
            StartTime=i.get("startTime"),
            EndTime=i.get("endTime"),
            TimeZone=i.get("timeZone"),
        ),
    )
    arn = aws.arn("autoscaling", f"scheduledUpdateGroupAction:*:autoScalingGroupName/{i['autoscalingGroupName']}")
    return r.physical_name, {"arn": f"{arn}:scheduledActionName/{r.physical_name}"}
