"""What an instance may be launched with: user data, tags in its metadata, security groups of its own VPC."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instances import InstanceBackend
from moto.ec2.models.launch_templates import LaunchTemplate

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="launches",
    moto=(
        "takes user data of any length, security groups of another VPC, and tags that an instance cannot show in its "
        "metadata"
    ),
    aws=(
        "user data has 16384 bytes before base64; an instance's security groups are of its subnet's VPC; where it "
        "shows its tags in its metadata, their keys are letters, digits and + - = . , _ : @, and not '.', '..' or "
        "'_index'"
    ),
    source=(
        "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html "
        "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/work-with-tags-in-IMDS.html "
        "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html"
    ),
)

USER_DATA_BYTES = 16_384
_KEY, _RESERVED = r"[0-9a-zA-Z\-_+=,.@:]{1,255}", (".", "..", "_index")


def mend(patches: Patches) -> None:
    """Check before moto launches."""

    def template(self: Any, backend: Any, name: str, data: dict[str, Any], *more: Any, **named: Any) -> None:
        _check_user_data(data.get("UserData"))
        moto_template(self, backend, name, data, *more, **named)

    def create_version(self: Any, data: dict[str, Any], description: str) -> Any:
        _check_user_data(data.get("UserData"))
        return moto_version(self, data, description)

    def run_instances(
        self: Any, image_id: str, count: int, user_data: Any, security_group_names: list[str], **how: Any
    ) -> Any:
        data: dict[str, Any] = {}
        if how.get("launch_template"):
            data = self._get_template_from_args(how["launch_template"]).data
        _check_user_data(user_data)
        options = how.get("metadata_options") or data.get("MetadataOptions") or {}
        if options.get("InstanceMetadataTags") == "enabled":
            keys = set((how.get("tags") or {}).get("instance") or {})
            for specification in data.get("TagSpecifications") or []:
                if specification.get("ResourceType") == "instance":
                    keys |= {tag["Key"] for tag in specification.get("Tags") or []}
            _check_shown(keys)
        groups = [*(how.get("security_group_ids") or []), *(data.get("SecurityGroupIds") or [])]
        if how.get("subnet_id"):
            _check_vpc(self, how["subnet_id"], groups)
        return moto_run(self, image_id, count, user_data, security_group_names, **how)

    moto_template = patches.put(LaunchTemplate, "__init__", template)
    moto_version = patches.put(LaunchTemplate, "create_version", create_version)
    moto_run = patches.put(InstanceBackend, "run_instances", run_instances)


def _check_user_data(encoded: Any) -> None:
    try:
        size = len(base64.b64decode(str(encoded or ""), validate=True))
    except (binascii.Error, ValueError):
        return  # no base64: moto's own refusal
    if size > USER_DATA_BYTES:
        raise EC2ClientError("InvalidUserData.Malformed", f"User data is limited to {USER_DATA_BYTES} bytes")


def _check_shown(keys: set[str]) -> None:
    for key in sorted(keys):
        if key in _RESERVED or not re.fullmatch(_KEY, key):
            raise EC2ClientError(
                "InvalidParameterValue",
                f"'{key}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\\\-_+=,.@:]{{1,255}}), and "
                "must not be a reserved name ('.', '..', '_index')",
            )


def _check_vpc(backend: Any, subnet_id: str, group_ids: list[Any]) -> None:
    vpcs = {s.vpc_id for zone in backend.subnets.values() for s in zone.values() if s.id == subnet_id}
    for group_id in group_ids:
        group = backend.get_security_group_from_id(group_id) if isinstance(group_id, str) else group_id
        if group is not None and vpcs and group.vpc_id not in vpcs:
            raise EC2ClientError(
                "InvalidParameter",
                f"Security group {group.id} and subnet {subnet_id} belong to different networks.",
            )
