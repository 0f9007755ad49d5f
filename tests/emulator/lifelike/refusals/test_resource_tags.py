from __future__ import annotations

from typing import Any

import pytest

Tags = list[dict[str, str]]


def tags(count: int) -> Tags:
    return [{"Key": f"key-{i}", "Value": "x"} for i in range(count)]


def on_a_vpc(account: Any, given: Tags) -> None:
    account.ec2.create_vpc(CidrBlock="10.0.0.0/16", TagSpecifications=[{"ResourceType": "vpc", "Tags": given}])


def on_a_vpc_later(account: Any, given: Tags) -> None:
    account.ec2.create_tags(Resources=[account.vpc()], Tags=given)


def on_a_target_group(account: Any, given: Tags) -> None:
    account.elb.create_target_group(Name=account.name(), Protocol="HTTP", Port=80, VpcId=account.vpc(), Tags=given)


def on_a_target_group_later(account: Any, given: Tags) -> None:
    account.elb.add_tags(ResourceArns=[account.target_group(account.vpc())], Tags=given)


def on_a_group(account: Any, given: Tags) -> None:
    account.group(account.two_zones(account.vpc()), Tags=[{**tag, "PropagateAtLaunch": True} for tag in given])


def on_what_a_template_launches(account: Any, given: Tags) -> None:
    account.template(TagSpecifications=[{"ResourceType": "instance", "Tags": given}])


EC2, ELB, ASG = "InvalidParameterValue", "ValidationError", "ValidationError"


@pytest.mark.parametrize(
    ("put", "many", "twice", "other"),
    [
        (on_a_vpc, "TagLimitExceeded", EC2, EC2),
        (on_a_vpc_later, "TagLimitExceeded", EC2, EC2),
        (on_what_a_template_launches, "TagLimitExceeded", EC2, EC2),
        (on_a_target_group, "TooManyTags", "DuplicateTagKeys", ELB),
        (on_a_target_group_later, "TooManyTags", "DuplicateTagKeys", ELB),
        (on_a_group, ASG, ASG, ASG),
    ],
)
def test_tags_keep_to_their_number_and_length(
    account: Any, refused: Any, put: Any, many: str, twice: str, other: str
) -> None:
    with refused(many):
        put(account, tags(51))
    with refused(twice):
        put(account, [*tags(1), *tags(1)])
    for key, value in (("aws:mine", "x"), ("x" * 129, "x"), ("key", "x" * 257)):
        with refused(other):
            put(account, [{"Key": key, "Value": value}])
    put(account, [*tags(49), {"Key": "x" * 128, "Value": "x" * 256}])
    put(account, [{"Key": "Team", "Value": "a"}, {"Key": "team", "Value": "b"}])
