"""What a stack needs, with figures worked out by hand. No cloud."""

from __future__ import annotations

import pytest

from gpu_fleet.config.settings import NewNetwork
from gpu_fleet.config.stack_file import parse_stack
from gpu_fleet.operate.preflight.aws import UnansweredError
from gpu_fleet.operate.preflight.concurrency import judge_concurrency
from gpu_fleet.operate.preflight.image import EcrImage
from gpu_fleet.operate.preflight.quotas import VcpuNeed, on_demand_needs, spot_needs
from gpu_fleet.operate.preflight.stack_needs import Stack
from gpu_fleet.operate.preflight.stack_quotas import count_addresses
from gpu_fleet.operate.preflight.volume_key import judge_key_policy
from gpu_fleet.operate.preflight.vpc_routes import default_target, judge_endpoints, route_table
from tests.operate.preflight.stacks import FILE

STACK = """\
config:
  aws:region: us-east-1
  gpu-fleet:network: {zones: [us-east-1a, us-east-1b]}
  gpu-fleet:load_balancer: {internal: true}
  gpu-fleet:services:
    chat:
      policy: chat
      paths: ["/v1/*"]
      priority: 1
      container: {image: "vllm/vllm-openai:v0.11.0"}
      pools:
        POOLS
"""


def stack(library, *pools: str) -> Stack:
    settings, _ = parse_stack(STACK.replace("POOLS", "\n        ".join(pools)), FILE)
    return Stack("test", settings, library)


def test_a_quota_carries_the_sum_of_the_pools_maxima(library):
    pools = stack(
        library,
        "l4: {types: [g6.xlarge, g6.2xlarge], min: 0, max: 10}",
        "l40s: {types: [g6e.2xlarge], min: 0, max: 3}",
        "h100: {types: [p5.4xlarge], min: 0, max: 2}",
    )
    # g6.xlarge has 4 vCPUs, g6.2xlarge and g6e.2xlarge 8, p5.4xlarge 16.
    assert on_demand_needs(pools) == {"g": VcpuNeed(10 * 4 + 3 * 8, 10 * 8 + 3 * 8), "p": VcpuNeed(32, 32)}
    assert spot_needs(pools) == {}


def test_on_demand_may_take_the_place_of_all_spot(library):
    pools = stack(library, "l4: {types: [g6.xlarge], min: 0, max: 11, on_demand_base: 2, spot_percent: 50}")
    assert on_demand_needs(pools) == {"g": VcpuNeed(44, 44)}
    # Of nine above the base five are on demand, rounded up, and four are spot.
    assert spot_needs(pools) == {"g-spot": VcpuNeed(16, 16)}


def test_a_pool_whose_base_is_its_maximum_needs_no_spot(library):
    assert (
        spot_needs(stack(library, "l4: {types: [g6.xlarge], min: 0, max: 2, on_demand_base: 2, spot_percent: 100}"))
        == {}
    )


def test_alternatives_count_once_in_a_quota_and_in_each_that_they_draw_on(library):
    pools = stack(library, "l4: {types: [g6.xlarge], alternatives: [[g6.2xlarge], [p5.4xlarge]], min: 0, max: 2}")
    assert on_demand_needs(pools) == {"g": VcpuNeed(16, 16), "p": VcpuNeed(32, 32)}


def test_a_service_bound_to_part_of_a_quota_needs_no_more(library):
    pools = stack(library, "l4: {types: [g6.xlarge, g6.2xlarge], min: 0, max: 10}")
    bound = pools.settings.services["chat"].model_copy(
        update={"vcpu_quotas": {"Running On-Demand G and VT instances": 16}}
    )
    settings = pools.settings.model_copy(update={"services": {"chat": bound}})
    assert on_demand_needs(Stack("test", settings, library)) == {"g": VcpuNeed(16, 16)}


@pytest.mark.parametrize(
    ("reserved", "own", "unreserved", "status"),
    [
        (None, 0, 1, "ok"), (None, 0, 0, "wrong"),
        (1, 0, 101, "ok"), (1, 0, 100, "wrong"), (1, 1, 100, "ok"), (5, 0, 10, "wrong"),
    ],
)  # fmt: skip
def test_aws_keeps_a_hundred_unreserved(reserved, own, unreserved, status):
    limit = {"ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": unreserved}
    assert judge_concurrency(reserved, own, limit).status == status


def test_a_limit_that_is_not_said_is_not_taken_for_zero():
    with pytest.raises(UnansweredError):
        judge_concurrency(None, 0, {})


@pytest.mark.parametrize(("nat", "count"), [("none", 0), ("one", 1), ("per_zone", 2)])
def test_each_nat_gateway_takes_an_address(nat, count):
    assert count_addresses(NewNetwork(zones=("us-east-1a", "us-east-1b"), nat=nat)) == count


DIGEST = f"sha256:{'ab' * 32}"
ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


@pytest.mark.parametrize(
    ("name", "read"),
    [
        (f"{ECR}/serving:1.0", EcrImage("123456789012", "eu-west-1", "serving", "1.0", "")),
        (f"{ECR}/team/serving", EcrImage("123456789012", "eu-west-1", "team/serving", "latest", "")),
        (f"{ECR}/serving@{DIGEST}", EcrImage("123456789012", "eu-west-1", "serving", "latest", DIGEST)),
        (f"{ECR}/serving:1.0@{DIGEST}", EcrImage("123456789012", "eu-west-1", "serving", "1.0", DIGEST)),
        (f"{ECR}.cn/serving:1.0", EcrImage("123456789012", "eu-west-1", "serving", "1.0", "")),
        ("vllm/vllm-openai:v0.11.0", None),
        ("public.ecr.aws/vllm/vllm:1", None),
        ("localhost:5000/serving", None),
    ],
)  # fmt: skip
def test_an_image_of_ecr_is_known_by_its_name(name, read):
    assert EcrImage.parse(name) == read


MAIN = {"RouteTableId": "rtb-m", "Associations": [{"Main": True}], "Routes": []}
OWN = {"RouteTableId": "rtb-o", "Associations": [{"Main": False, "SubnetId": "subnet-1"}], "Routes": []}


@pytest.mark.parametrize("tables", [[MAIN, OWN], [OWN, MAIN]])
def test_a_subnets_own_table_goes_before_the_main_one(tables):
    assert route_table("subnet-1", tables) is OWN
    assert route_table("subnet-2", tables) is MAIN
    assert route_table("subnet-1", []) == {}


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ({"NatGatewayId": "nat-1", "State": "active"}, "nat-1"),
        ({"NatGatewayId": "nat-1", "State": "blackhole"}, ""),
        ({"TransitGatewayId": "tgw-1", "State": "active"}, "tgw-1"),
        ({"GatewayId": "vpce-1"}, "vpce-1"),
        ({"NetworkInterfaceId": "eni-1", "InstanceId": "i-1"}, "eni-1"),
        ({"VpcPeeringConnectionId": "pcx-1", "State": "active"}, ""),
    ],
)
def test_a_default_route_leads_out_but_through_no_peering(route, expected):
    elsewhere = {"DestinationCidrBlock": "10.0.0.0/16", "GatewayId": "local"}
    assert default_target({"Routes": [elsewhere, {"DestinationCidrBlock": "0.0.0.0/0", **route}]}) == expected


def test_an_image_of_another_regions_registry_is_not_reached_by_endpoints():
    from infra.network import ENDPOINTS

    up = [
        {"ServiceName": f"com.amazonaws.us-east-1.{name}", "State": "available", "PrivateDnsEnabled": True}
        for name in (*ENDPOINTS, "s3")
    ]
    assert judge_endpoints({}, up, "us-east-1", [f"{ECR}/serving:1.0"], ()).status == "wrong"
    assert (
        judge_endpoints({}, up, "us-east-1", [f"{ECR}/serving:1.0".replace("eu-west-1", "us-east-1")], ()).status
        == "ok"
    )
    pending = [one | {"State": "pending"} for one in up]
    assert judge_endpoints({}, pending, "us-east-1", [], ()).status == "wrong"


ROLE = "arn:aws:iam::123456789012:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"


@pytest.mark.parametrize(
    ("statement", "status"),
    [
        ('{"Effect": "Allow", "Principal": "*"}', "ok"),
        ('{"Effect": "Allow", "Principal": {"AWS": "*"}}', "ok"),
        (f'{{"Effect": "Allow", "Principal": {{"AWS": "{ROLE}"}}}}', "ok"),
        (f'[{{"Principal": {{"Service": "x"}}}}, {{"Effect": "Allow", "Principal": {{"AWS": ["{ROLE}"]}}}}]', "ok"),
        (f'{{"Effect": "Deny", "Principal": {{"AWS": "{ROLE}"}}}}', "wrong"),
        ('{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}}', "wrong"),
        ("[]", "wrong"),
    ],
)
def test_a_key_for_volumes_must_name_auto_scalings_role(statement, status):
    assert judge_key_policy(f'{{"Statement": {statement}}}', []).status == status
