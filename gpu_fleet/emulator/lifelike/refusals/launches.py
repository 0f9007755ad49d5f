"""Launches: the size of user data, tags in the metadata, security groups of the subnet's VPC, rates of volumes."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instances import InstanceBackend
from moto.ec2.models.launch_templates import LaunchTemplate

from gpu_fleet.emulator.lifelike.difference import Difference, Patches, arguments

DIFFERENCE = Difference(
    name="launches",
    moto=(
        "accepts user data of any length, security groups of another VPC, and tags that an instance cannot show in its "
        "metadata, and gp3 volumes of any IOPS and throughput"
    ),
    aws=(
        "user data has at most 16384 bytes before base64; an instance's security groups belong to its subnet's VPC; "
        "if it shows its tags in its metadata, their keys are letters, digits and + - = . , _ : @, and not '.', '..' "
        "or '_index'; a gp3 volume has 3000 to 80000 IOPS, at most 500 for each GiB, and 125 to 2000 MiB/s, at most "
        "0.25 for each of its IOPS"
    ),
    source=(
        "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html "
        "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/work-with-tags-in-IMDS.html "
        "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html "
        "https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html"
    ),
)

USER_DATA_BYTES = 16_384
_METADATA_KEY, _RESERVED_KEYS = r"[0-9a-zA-Z\-_+=,.@:]{1,255}", (".", "..", "_index")


def patch_moto(patches: Patches) -> None:
    """Check requests before moto launches."""
    patches.wrap(LaunchTemplate, "__init__", create_template)
    patches.wrap(LaunchTemplate, "create_version", create_version)
    patches.wrap(InstanceBackend, "run_instances", run_instances)


def create_template(moto: Any, template: Any, *args: Any, **kwargs: Any) -> None:
    """CreateLaunchTemplate with user data of a valid size."""
    _check_user_data(arguments(moto, template, *args, **kwargs)["template_data"].get("UserData"))
    moto(template, *args, **kwargs)


def create_version(moto: Any, template: Any, data: dict[str, Any], description: str) -> Any:
    """CreateLaunchTemplateVersion with user data of a valid size."""
    _check_user_data(data.get("UserData"))
    return moto(template, data, description)


def run_instances(moto: Any, backend: Any, image_id: str, count: int, user_data: Any, *more: Any, **how: Any) -> Any:
    """RunInstances with valid user data, tags and security groups."""
    data: dict[str, Any] = {}
    if how.get("launch_template"):
        data = backend._get_template_from_args(how["launch_template"]).data
    _check_user_data(user_data)
    metadata_options = how.get("metadata_options") or data.get("MetadataOptions") or {}
    if metadata_options.get("InstanceMetadataTags") == "enabled":
        _check_metadata_keys(_tag_keys(how, data))
    groups = [*(how.get("security_group_ids") or []), *(data.get("SecurityGroupIds") or [])]
    if how.get("subnet_id"):
        _check_vpc(backend, how["subnet_id"], groups)
    for device in how.get("block_device_mappings") or data.get("BlockDeviceMappings") or []:
        _check_gp3(device.get("Ebs") or {})
    return moto(backend, image_id, count, user_data, *more, **how)


def _tag_keys(how: dict[str, Any], data: dict[str, Any]) -> set[str]:
    """Return the keys of the instance's tags, from the request and from the template."""
    keys = set((how.get("tags") or {}).get("instance") or {})
    for specification in data.get("TagSpecifications") or []:
        if specification.get("ResourceType") == "instance":
            keys |= {tag["Key"] for tag in specification.get("Tags") or []}
    return keys


def _check_user_data(encoded: Any) -> None:
    try:
        size = len(base64.b64decode(str(encoded or ""), validate=True))
    except (binascii.Error, ValueError):
        return  # moto itself refuses what is not base64
    if size > USER_DATA_BYTES:
        raise EC2ClientError("InvalidUserData.Malformed", f"User data is limited to {USER_DATA_BYTES} bytes")


def _check_metadata_keys(keys: set[str]) -> None:
    for key in sorted(keys):
        if key in _RESERVED_KEYS or not re.fullmatch(_METADATA_KEY, key):
            raise EC2ClientError(
                "InvalidParameterValue",
                f"'{key}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\\\-_+=,.@:]{{1,255}}), and "
                "must not be a reserved name ('.', '..', '_index')",
            )


def _check_gp3(volume: dict[str, Any]) -> None:
    if volume.get("VolumeType") != "gp3":
        return
    iops, throughput = int(volume.get("Iops") or 3000), int(volume.get("Throughput") or 125)
    most = min(80_000, max(3000, 500 * int(volume["VolumeSize"]))) if volume.get("VolumeSize") else 80_000
    if not 3000 <= iops <= most:
        raise EC2ClientError("InvalidParameterValue", f"Volume iops of {iops} is invalid; must be 3000 to {most}")
    if not 125 <= throughput <= min(2000, iops / 4):
        text = f"Throughput (MiBps) to iops ratio of {throughput / iops:.3f} is too high; maximum is 0.250"
        raise EC2ClientError("InvalidParameterValue", text)


def _check_vpc(backend: Any, subnet_id: str, group_ids: list[Any]) -> None:
    vpcs = {s.vpc_id for zone in backend.subnets.values() for s in zone.values() if s.id == subnet_id}
    for group_id in group_ids:
        group = backend.get_security_group_from_id(group_id) if isinstance(group_id, str) else group_id
        if group is not None and vpcs and group.vpc_id not in vpcs:
            raise EC2ClientError(
                "InvalidParameter",
                f"Security group {group.id} and subnet {subnet_id} belong to different networks.",
            )
