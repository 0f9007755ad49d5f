"""Launch templates, Auto Scaling groups, their hooks and policies."""

from __future__ import annotations

from typing import Any

from gpu_fleet.emulator.provider.registry import (
    Made,
    MotoAccount,
    Resource,
    given,
    makes,
    pascal,
    tag_specification,
    true,
    whole,
)


@makes("aws:ec2/launchTemplate:LaunchTemplate", longest_name=128, no_effect=("updateDefaultVersion", "defaultVersion"))
def launch_template(aws: MotoAccount, r: Resource) -> Made:
    """A launch template, version 1."""
    made = aws.client("ec2").create_launch_template(
        LaunchTemplateName=r.physical_name,
        LaunchTemplateData=template_data(r),
        TagSpecifications=tag_specification(r, "launch-template"),
        **given(VersionDescription=r.inputs.get("description")),
    )["LaunchTemplate"]
    identity = made["LaunchTemplateId"]
    return identity, {
        "arn": aws.arn("ec2", f"launch-template/{identity}"),
        "latestVersion": 1,
        "defaultVersion": 1,
    }


def template_data(r: Resource) -> dict[str, Any]:
    """LaunchTemplateData of the inputs."""
    i = r.inputs
    market = i.get("instanceMarketOptions")
    return given(
        ImageId=i.get("imageId"),
        InstanceType=i.get("instanceType"),
        KeyName=i.get("keyName"),
        UserData=i.get("userData"),
        EbsOptimized=None if i.get("ebsOptimized") is None else true(i["ebsOptimized"]),
        InstanceInitiatedShutdownBehavior=i.get("instanceInitiatedShutdownBehavior"),
        DisableApiTermination=i.get("disableApiTermination"),
        SecurityGroupIds=i.get("vpcSecurityGroupIds"),
        IamInstanceProfile=pascal(i["iamInstanceProfile"]) if "iamInstanceProfile" in i else None,
        Monitoring=pascal(i["monitoring"]) if "monitoring" in i else None,
        Placement=pascal(i["placement"]) if "placement" in i else None,
        MaintenanceOptions=pascal(i["maintenanceOptions"]) if "maintenanceOptions" in i else None,
        MetadataOptions=_metadata(i["metadataOptions"]) if "metadataOptions" in i else None,
        InstanceMarketOptions=pascal(market) if market else None,
        CapacityReservationSpecification=(
            pascal(i["capacityReservationSpecification"]) if "capacityReservationSpecification" in i else None
        ),
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
    out = pascal(options)
    if "HttpPutResponseHopLimit" in out:
        out["HttpPutResponseHopLimit"] = int(out["HttpPutResponseHopLimit"])
    return out


def _device(device: dict[str, Any]) -> dict[str, Any]:
    ebs = device.get("ebs") or {}
    return given(
        DeviceName=device.get("deviceName"),
        VirtualName=device.get("virtualName"),
        NoDevice=device.get("noDevice"),
        Ebs=given(
            VolumeSize=whole(ebs.get("volumeSize")),
            VolumeType=ebs.get("volumeType"),
            Iops=whole(ebs.get("iops")),
            Throughput=whole(ebs.get("throughput")),
            KmsKeyId=ebs.get("kmsKeyId"),
            SnapshotId=ebs.get("snapshotId"),
            Encrypted=None if ebs.get("encrypted") is None else true(ebs["encrypted"]),
            DeleteOnTermination=None if ebs.get("deleteOnTermination") is None else true(ebs["deleteOnTermination"]),
        )
        or None,
    )


def _interface(interface: dict[str, Any]) -> dict[str, Any]:
    public, delete = interface.get("associatePublicIpAddress"), interface.get("deleteOnTermination")
    return given(
        DeviceIndex=whole(interface.get("deviceIndex", 0)),
        AssociatePublicIpAddress=None if public is None else true(public),
        DeleteOnTermination=None if delete is None else true(delete),
        Groups=interface.get("securityGroups"),
        SubnetId=interface.get("subnetId"),
        Description=interface.get("description"),
        InterfaceType=interface.get("interfaceType"),
        NetworkCardIndex=whole(interface.get("networkCardIndex")),
    )


def _specification(template: dict[str, Any]) -> dict[str, Any]:
    version = template.get("version")
    return given(
        LaunchTemplateId=template.get("launchTemplateId") or template.get("id"),
        LaunchTemplateName=template.get("launchTemplateName") or template.get("name"),
        Version=None if version is None else str(whole(version) if isinstance(version, float) else version),
    )


def mixed_instances_policy(policy: dict[str, Any]) -> dict[str, Any]:
    """The API's MixedInstancesPolicy."""
    template = policy["launchTemplate"]
    distribution = dict(policy.get("instancesDistribution") or {})
    for key in ("onDemandBaseCapacity", "onDemandPercentageAboveBaseCapacity", "spotInstancePools"):
        if distribution.get(key) is not None:
            distribution[key] = int(distribution[key])
    overrides = []
    for override in template.get("overrides") or []:
        out = pascal({k: v for k, v in override.items() if k != "launchTemplateSpecification"})
        if override.get("launchTemplateSpecification"):
            out["LaunchTemplateSpecification"] = _specification(override["launchTemplateSpecification"])
        overrides.append(out)
    return given(
        LaunchTemplate={
            "LaunchTemplateSpecification": _specification(template["launchTemplateSpecification"]),
            "Overrides": overrides,
        },
        InstancesDistribution=pascal(distribution) or None,
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
def group(aws: MotoAccount, r: Resource) -> Made:
    """An Auto Scaling group. Its first hooks are there before its first instance, as the provider makes it."""
    asg, i = aws.client("autoscaling"), r.inputs
    hooks = [
        given(
            LifecycleHookName=h["name"],
            LifecycleTransition=h["lifecycleTransition"],
            HeartbeatTimeout=whole(h.get("heartbeatTimeout")),
            DefaultResult=h.get("defaultResult"),
            NotificationTargetARN=h.get("notificationTargetArn"),
            NotificationMetadata=h.get("notificationMetadata"),
            RoleARN=h.get("roleArn"),
        )
        for h in i.get("initialLifecycleHooks") or []
    ]
    policy = i.get("mixedInstancesPolicy")
    asg.create_auto_scaling_group(
        AutoScalingGroupName=r.physical_name,
        MinSize=whole(i["minSize"]),
        MaxSize=whole(i["maxSize"]),
        **given(
            DesiredCapacity=whole(i.get("desiredCapacity")),
            DesiredCapacityType=i.get("desiredCapacityType"),
            VPCZoneIdentifier=",".join(i.get("vpcZoneIdentifiers") or []) or None,
            AvailabilityZones=i.get("availabilityZones"),
            LaunchTemplate=_specification(i["launchTemplate"]) if "launchTemplate" in i else None,
            MixedInstancesPolicy=mixed_instances_policy(policy) if policy else None,
            TargetGroupARNs=i.get("targetGroupArns"),
            HealthCheckType=i.get("healthCheckType"),
            HealthCheckGracePeriod=whole(i.get("healthCheckGracePeriod")),
            DefaultCooldown=whole(i.get("defaultCooldown")),
            DefaultInstanceWarmup=whole(i.get("defaultInstanceWarmup")),
            TerminationPolicies=i.get("terminationPolicies"),
            CapacityRebalance=i.get("capacityRebalance"),
            MaxInstanceLifetime=whole(i.get("maxInstanceLifetime")),
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
def lifecycle_hook(aws: MotoAccount, r: Resource) -> Made:
    """A lifecycle hook."""
    i = r.inputs
    aws.client("autoscaling").put_lifecycle_hook(
        LifecycleHookName=r.physical_name,
        AutoScalingGroupName=i["autoscalingGroupName"],
        LifecycleTransition=i["lifecycleTransition"],
        **given(
            HeartbeatTimeout=whole(i.get("heartbeatTimeout")),
            DefaultResult=i.get("defaultResult"),
            NotificationTargetARN=i.get("notificationTargetArn"),
            NotificationMetadata=i.get("notificationMetadata"),
            RoleARN=i.get("roleArn"),
        ),
    )
    return r.physical_name, {}


@makes("aws:autoscaling/policy:Policy")
def scaling_policy(aws: MotoAccount, r: Resource) -> Made:
    """A scaling policy."""
    i = r.inputs
    steps = [
        given(
            MetricIntervalLowerBound=_bound(s.get("metricIntervalLowerBound")),
            MetricIntervalUpperBound=_bound(s.get("metricIntervalUpperBound")),
            ScalingAdjustment=whole(s["scalingAdjustment"]),
        )
        for s in i.get("stepAdjustments") or []
    ]
    made = aws.client("autoscaling").put_scaling_policy(
        AutoScalingGroupName=i["autoscalingGroupName"],
        PolicyName=r.physical_name,
        **given(
            PolicyType=i.get("policyType"),
            AdjustmentType=i.get("adjustmentType"),
            MinAdjustmentMagnitude=whole(i.get("minAdjustmentMagnitude")),
            ScalingAdjustment=whole(i.get("scalingAdjustment")),
            Cooldown=whole(i.get("cooldown")),
            MetricAggregationType=i.get("metricAggregationType"),
            EstimatedInstanceWarmup=whole(i.get("estimatedInstanceWarmup")),
            StepAdjustments=steps or None,
            TargetTrackingConfiguration=(
                pascal(i["targetTrackingConfiguration"]) if "targetTrackingConfiguration" in i else None
            ),
            Enabled=i.get("enabled"),
        ),
    )
    return r.physical_name, {"arn": made["PolicyARN"]}


def _bound(value: Any) -> float | None:
    return None if value in (None, "") else float(value)


@makes("aws:autoscaling/schedule:Schedule", named="scheduledActionName")
def schedule(aws: MotoAccount, r: Resource) -> Made:
    """A scheduled action. The provider takes -1 for: leave it as it is."""
    i = r.inputs

    def size(key: str) -> int | None:
        value = whole(i.get(key))
        return None if value in (None, -1) else value

    aws.client("autoscaling").put_scheduled_update_group_action(
        AutoScalingGroupName=i["autoscalingGroupName"],
        ScheduledActionName=r.physical_name,
        **given(
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
