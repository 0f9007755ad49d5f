from __future__ import annotations

import base64
from typing import Any

import pytest


def user_data(size: int) -> str:
    return base64.b64encode(b"x" * size).decode()


def test_user_data_has_16_kilobytes_before_base64(account: Any, refused: Any) -> None:
    with refused("InvalidUserData.Malformed", "16384"):
        account.template(UserData=user_data(16_385))
    template = account.template(UserData=user_data(16_384))
    with refused("InvalidUserData.Malformed"):
        account.ec2.create_launch_template_version(
            LaunchTemplateId=template, LaunchTemplateData={"UserData": user_data(16_385)}
        )


@pytest.mark.parametrize("key", ["two words", "team/models", "_index", "café"])
def test_tags_in_metadata_have_keys_of_their_alphabet(account: Any, refused: Any, key: str) -> None:
    subnet = account.subnet(account.vpc(), "10.0.0.0/24")
    tags = [{"ResourceType": "instance", "Tags": [{"Key": key, "Value": "x"}]}]
    with refused("InvalidParameterValue", "not a valid tag key"):
        account.instance(subnet, MetadataOptions={"InstanceMetadataTags": "enabled"}, TagSpecifications=tags)
    account.instance(subnet, TagSpecifications=tags)
    tags[0]["Tags"] = [{"Key": "gpu-fleet:stack", "Value": "any value/at all"}]
    account.instance(subnet, MetadataOptions={"InstanceMetadataTags": "enabled"}, TagSpecifications=tags)


def test_its_security_groups_are_of_its_subnets_vpc(account: Any, refused: Any) -> None:
    own, other = account.vpc(), account.vpc("10.1.0.0/16")
    subnet = account.subnet(own, "10.0.0.0/24")
    with refused("InvalidParameter", "belong to different networks"):
        account.instance(subnet, account.security_group(other))
    account.instance(subnet, account.security_group(own))


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"Iops": 2999}, "iops of 2999"),
        ({"VolumeSize": 10, "Iops": 5001}, "iops of 5001"),
        ({"Iops": 4000, "Throughput": 1001}, "ratio of 0.250 is too high"),
        ({"Iops": 80000, "Throughput": 2001}, "too high"),
    ],
)
def test_a_gp3_volume_has_rates_within_its_limits(
    account: Any, refused: Any, rates: dict[str, int], message: str
) -> None:
    subnet = account.subnet(account.vpc(), "10.0.0.0/24")

    def launch(**ebs: int) -> None:
        volume = {"VolumeType": "gp3", "VolumeSize": 200, **ebs}
        template = account.template(BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": volume}])
        account.instance(subnet, LaunchTemplate={"LaunchTemplateId": template})

    with refused("InvalidParameterValue", message):
        launch(**rates)
    launch(Iops=4000, Throughput=1000)
    launch(VolumeSize=10, Iops=5000)
    launch()
