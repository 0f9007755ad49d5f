from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def rules(account: Any) -> Any:
    """Add rules to a group; returns the group and the ids of its rules by CIDR."""
    group = account.security_group(account.vpc())

    def rules(*cidrs: str) -> tuple[str, dict[str, str]]:
        for cidr in cidrs:
            account.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=allow(cidr))
        described = account.ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group]}])
        return group, {
            r["CidrIpv4"]: r["SecurityGroupRuleId"] for r in described["SecurityGroupRules"] if not r["IsEgress"]
        }

    return rules


def allow(*cidrs: str) -> list[dict[str, Any]]:
    return [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": cidr} for cidr in cidrs]}]


def modify(account: Any, group: str, **cidrs: str) -> None:
    account.ec2.modify_security_group_rules(
        GroupId=group,
        SecurityGroupRules=[
            {
                "SecurityGroupRuleId": rule,
                "SecurityGroupRule": {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "CidrIpv4": cidr},
            }
            for rule, cidr in cidrs.items()
        ],
    )


def test_a_rule_is_unique(account: Any, refused: Any, rules: Any) -> None:
    rules("10.0.0.0/8")
    with refused("InvalidPermission.Duplicate"):
        rules("10.0.0.0/8")
    rules("11.0.0.0/8")


def test_a_rule_cannot_become_equal_to_another(account: Any, refused: Any, rules: Any) -> None:
    group, ids = rules("10.0.0.0/8", "11.0.0.0/8")
    with refused("InvalidPermission.Duplicate", "already exists"):
        modify(account, group, **{ids["10.0.0.0/8"]: "11.0.0.0/8"})
    modify(account, group, **{ids["10.0.0.0/8"]: "12.0.0.0/8"})
    modify(account, group, **{ids["10.0.0.0/8"]: "12.0.0.0/8"})  # what it is already
    assert set(rules()[1]) == {"11.0.0.0/8", "12.0.0.0/8"}


def test_two_rules_can_swap_in_one_call(account: Any, rules: Any) -> None:
    group, ids = rules("10.0.0.0/8", "11.0.0.0/8")
    modify(account, group, **{ids["10.0.0.0/8"]: "11.0.0.0/8", ids["11.0.0.0/8"]: "10.0.0.0/8"})
    assert rules()[1] == {"11.0.0.0/8": ids["10.0.0.0/8"], "10.0.0.0/8": ids["11.0.0.0/8"]}


def test_a_group_has_60_rules(refused: Any, rules: Any) -> None:
    rules(*(f"10.{i}.0.0/16" for i in range(60)))
    with refused("RulesPerSecurityGroupLimitExceeded"):
        rules("11.0.0.0/8")


@pytest.mark.parametrize(
    "how", [{"GroupName": "sg-mine"}, {"GroupName": "x" * 256}, {"Description": "it's"}, {"Description": "x" * 256}]
)
def test_names_and_descriptions_keep_to_their_alphabet(account: Any, refused: Any, how: dict[str, str]) -> None:
    vpc = account.vpc()
    with refused("InvalidParameterValue"):
        account.ec2.create_security_group(**{"GroupName": "mine", "Description": "Mine", "VpcId": vpc, **how})
    account.ec2.create_security_group(GroupName="x" * 255, Description="Mine, of (all): 1/2", VpcId=vpc)
