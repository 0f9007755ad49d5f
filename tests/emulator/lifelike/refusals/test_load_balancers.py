from __future__ import annotations

from typing import Any

import pytest


def test_a_load_balancer_needs_one_subnet_in_each_of_two_zones(account: Any, refused: Any) -> None:
    vpc = account.vpc()
    subnets = account.two_zones(vpc)
    with refused("ValidationError", "At least two subnets in two different Availability Zones"):
        account.balancer(subnets[:1])
    with refused("InvalidConfigurationRequest", "same Availability Zone"):
        account.balancer([subnets[0], account.subnet(vpc, "10.0.9.0/24", "a")])
    balancer = account.balancer(subnets)
    with refused("ValidationError", "At least two subnets"):
        account.elb.set_subnets(LoadBalancerArn=balancer, Subnets=subnets[1:])


def test_its_subnets_and_security_groups_are_of_its_vpc(account: Any, refused: Any) -> None:
    own, other = account.vpc(), account.vpc("10.1.0.0/16")
    subnets, others = account.two_zones(own), account.two_zones(other, "10.1")
    with refused("InvalidConfigurationRequest", "same VPC"):
        account.balancer([subnets[0], others[1]])
    with refused("InvalidConfigurationRequest"):
        account.balancer(subnets, SecurityGroups=[account.security_group(other)])
    with refused("InvalidSecurityGroup"):
        account.balancer(subnets, SecurityGroups=["sg-0123456789abcdef0"])
    balancer = account.balancer(subnets, SecurityGroups=[account.security_group(own)])
    with refused("InvalidConfigurationRequest"):
        account.elb.set_subnets(LoadBalancerArn=balancer, Subnets=others)
    with refused("InvalidConfigurationRequest"):
        account.elb.set_security_groups(LoadBalancerArn=balancer, SecurityGroups=[account.security_group(other)])
    account.elb.set_subnets(LoadBalancerArn=balancer, Subnets=[subnets[0], account.subnet(own, "10.0.9.0/24", "c")])
    account.elb.set_security_groups(LoadBalancerArn=balancer, SecurityGroups=[account.security_group(own)])


def test_an_internet_facing_load_balancer_needs_an_internet_gateway(account: Any, refused: Any) -> None:
    subnets = account.two_zones(account.vpc(gateway=False))
    with refused("InvalidSubnet", "has no internet gateway"):
        account.balancer(subnets)
    account.balancer(subnets, Scheme="internal")


def test_a_load_balancers_subnet_is_a_27_or_larger(account: Any, refused: Any) -> None:
    vpc = account.vpc()
    with refused("InvalidSubnet", "at least 8 free IP addresses"):
        account.balancer([account.subnet(vpc, "10.0.0.0/28"), account.subnet(vpc, "10.0.1.0/27", "b")])
    account.balancer([account.subnet(vpc, "10.0.2.0/27"), account.subnet(vpc, "10.0.3.0/27", "b")])


@pytest.mark.parametrize("name", ["x" * 33, "under_score", "-front", "back-", "internal-one"])
def test_a_name_is_32_letters_digits_and_hyphens(account: Any, refused: Any, name: str) -> None:
    subnets = account.two_zones(account.vpc())
    with refused("ValidationError"):
        account.balancer(subnets, name)
    account.balancer(subnets, "x" * 32)
    account.balancer(subnets, "two--hyphens")


def test_a_name_is_unique_unless_all_settings_are_equal(account: Any, refused: Any) -> None:
    subnets = account.two_zones(account.vpc())
    balancer = account.balancer(subnets, "front")
    assert account.balancer(subnets, "front") == balancer
    with refused("DuplicateLoadBalancerName"):
        account.balancer(subnets, "front", Scheme="internal")


def test_a_protected_load_balancer_is_not_deleted(account: Any, refused: Any) -> None:
    balancer = account.balancer(account.two_zones(account.vpc()))

    def protect(word: str) -> None:
        attribute = {"Key": "deletion_protection.enabled", "Value": word}
        account.elb.modify_load_balancer_attributes(LoadBalancerArn=balancer, Attributes=[attribute])

    protect("true")
    with refused("OperationNotPermitted", "deletion protection is enabled"):
        account.elb.delete_load_balancer(LoadBalancerArn=balancer)
    protect("false")
    account.elb.delete_load_balancer(LoadBalancerArn=balancer)
    assert account.elb.describe_load_balancers()["LoadBalancers"] == []
