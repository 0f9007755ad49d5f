"""A group's instance is launched with everything that its launch template contains."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

from moto.autoscaling import models
from moto.autoscaling.exceptions import ValidationError
from moto.ssm.models import ssm_backends

from gpu_fleet.emulator.lifelike.difference import Difference
from gpu_fleet.emulator.lifelike.placement import LaunchPlacement

DIFFERENCE = Difference(
    name="launch from a template",
    moto="launches a group's instances with a part of the template's settings; an image id may not name a parameter",
    aws="launches with all settings of the template, and resolves `resolve:ssm:` to the parameter's value",
    source=(
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/launch-templates.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/using-systems-manager-parameters.html"
    ),
)


def launch_template(group: Any) -> Any:
    """Return the group's launch template. Raises ValidationError for a launch configuration, which is not modelled."""
    if group.ec2_launch_template is None:
        raise ValidationError(f"{group.name}: only groups with a launch template are modelled here")
    return group.ec2_launch_template


def run_instance(group: Any, version: Any, placement: LaunchPlacement) -> Any:
    """Launch one EC2 instance from a version of the group's launch template."""
    data = version.data
    interfaces = data.get("NetworkInterfaces") or [{}]
    tags = {**group.get_propagated_tags(), models.ASG_NAME_TAG: group.name, **version.instance_tags}
    spot_options: dict[str, Any] = {}
    if placement.spot:
        spot_options = {"instance_market_options": {"MarketType": "spot"}, "lifecycle": "spot"}
    profile = data.get("IamInstanceProfile") or {}
    reservation = group.ec2_backend.run_instances(
        resolve_image(data.get("ImageId", ""), group),
        1,
        version.user_data,
        [],
        security_group_ids=list(data.get("SecurityGroupIds") or interfaces[0].get("Groups") or []),
        instance_type=placement.type,
        is_instance_type_default=False,
        region_name=group.region,
        placement=placement.zone,
        subnet_id=placement.subnet,
        associate_public_ip=bool(interfaces[0].get("AssociatePublicIpAddress", False)),
        tags={"instance": tags},
        launch_template={"LaunchTemplateId": version.template.id, "Version": str(version.number)},
        block_device_mappings=copy.deepcopy(data.get("BlockDeviceMappings") or []),
        metadata_options=copy.deepcopy(data.get("MetadataOptions") or {}),
        ebs_optimized=bool(data.get("EbsOptimized", False)),
        monitoring_state="enabled" if (data.get("Monitoring") or {}).get("Enabled") else "disabled",
        iam_instance_profile=profile.get("Name") or profile.get("Arn"),
        **spot_options,
    )
    instance = reservation.instances[0]
    instance.autoscaling_group = group
    return instance


def resolve_image(image: str, group: Any) -> str:
    """Return the AMI of an image id, which may name a parameter (`resolve:ssm:`).

    A public parameter (/aws/service/...) that moto lacks resolves to a made-up AMI of its own. Raises ValidationError
    for any other parameter that does not exist, as EC2 does at launch.
    """
    if not image.startswith("resolve:ssm:"):
        return image
    name = image.removeprefix("resolve:ssm:")
    parameter = ssm_backends[group.account_id][group.region].get_parameter(name)
    if parameter is not None:
        return str(parameter.value)
    if name.startswith("/aws/service/"):
        return "ami-" + hashlib.sha256(name.encode()).hexdigest()[:17]
    raise ValidationError(f"The parameter {name} that the launch template's ImageId names does not exist")


def forget_instance(ec2_backend: Any, instance_id: str) -> None:
    """Drop a terminated instance from EC2's list."""
    for key, reservation in list(ec2_backend.reservations.items()):
        if any(i.id == instance_id for i in reservation.instances):
            reservation.instances = [i for i in reservation.instances if i.id != instance_id]
            if not reservation.instances:
                del ec2_backend.reservations[key]
