"""One fault at a time: its row is wrong, and no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from unittest import mock

import pytest
from moto.ec2.models import ec2_backends
from moto.ec2.models.availability_zones_and_regions import RegionsAndZonesBackend

from gpu_fleet.operate.preflight.finding import Status
from tests.operate.preflight.account import (
    ACCOUNT,
    ADDRESSES,
    AMI_PARAMETER,
    BALANCERS,
    G_SPOT,
    GP3,
    REGION,
    VPCS,
    Account,
    G,
    P,
)
from tests.operate.preflight.stacks import (
    EXISTING_NETWORK,
    NEW_NETWORK,
    finding_text,
    run_checks,
    stack_text,
    with_status,
)


@dataclass(frozen=True)
class Fault:
    """A fault in a good account or file, and the finding that it must cause."""

    name: str
    plant: Callable[[Account], tuple[str, str] | None]
    """Changes the account, or returns a text in the stack's file and its replacement."""
    check: str
    subject: str
    message: str
    not_known: frozenset[str] = field(default_factory=frozenset)
    """Checks that the fault makes impossible."""


def in_account(change: Callable[[Account], object]) -> Callable[[Account], None]:
    def plant(account: Account) -> None:
        change(account)

    return plant


def in_file(old: str, new: str) -> Callable[[Account], tuple[str, str]]:
    return lambda account: (old.format(**account.names), new)


def named(name: str, make: Callable[[Account], str]) -> Callable[[Account], None]:
    """Give the file another thing under one of its names."""

    def plant(account: Account) -> None:
        account.names[name] = make(account)

    return plant


def lower(quota: tuple[str, str], value: float) -> Callable[[Account], None]:
    return in_account(lambda account: account.quotas.update({quota: value}))


FOREIGN = f"arn:aws:acm:{REGION}:210987654321:certificate/00000000-0000-0000-0000-000000000000"
MISSING = f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/00000000-0000-0000-0000-000000000000"
DEPENDS_ON_AMI = frozenset({"AMI's architecture", "AMI's root device", "root volume"})


def without_value(account: Account) -> str:
    return account.client("secretsmanager").create_secret(Name="empty")["ARN"]


def deleted(account: Account) -> None:
    account.client("secretsmanager").delete_secret(SecretId=account.names["token"])


PULL = "ecr-pullthroughcache/"


def gone(account: Account, name: str = "gone") -> str:
    arn = account.secret(name)
    account.client("secretsmanager").delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    return arn


def under(change: str) -> Callable[[Account], str]:
    """Make a secret whose key is disabled, or scheduled for deletion."""

    def make(account: Account) -> str:
        key = account.key()
        arn = account.secret("locked", key)
        getattr(account.client("kms"), change)(KeyId=key.split("/")[-1])
        return arn

    return make


def topic_under_own_key_disabled(account: Account) -> str:
    key = account.key()
    account.client("kms").disable_key(KeyId=key.split("/")[-1])
    return account.topic("locked", KmsMasterKeyId=key)


def topic_gone(account: Account) -> None:
    account.client("sns").delete_topic(TopicArn=account.names["topic"])


def acl_gone(account: Account) -> None:
    waf = account.client("wafv2")
    _, _, name, identity = account.names["acl"].split(":", 5)[5].split("/")
    token = waf.get_web_acl(Name=name, Scope="REGIONAL", Id=identity)["LockToken"]
    waf.delete_web_acl(Name=name, Scope="REGIONAL", Id=identity, LockToken=token)


def ami_gone(account: Account) -> None:
    image = account.client("ssm").get_parameter(Name=AMI_PARAMETER)["Parameter"]["Value"]
    account.client("ec2").deregister_image(ImageId=image)


def ami_pending(account: Account) -> None:
    image = account.client("ssm").get_parameter(Name=AMI_PARAMETER)["Parameter"]["Value"]
    ec2_backends[ACCOUNT][REGION].amis[image].state = "pending"


def parameter_gone(account: Account) -> None:
    account.client("ssm").delete_parameter(Name=AMI_PARAMETER)


def no_ami(account: Account) -> None:
    account.client("ssm").put_parameter(Name=AMI_PARAMETER, Value="latest", Type="String", Overwrite=True)


def vpcs(account: Account) -> None:
    for i in range(4):  # and the default one
        account.client("ec2").create_vpc(CidrBlock=f"10.{i}.0.0/16")


def addresses(account: Account) -> None:
    for _ in range(4):
        account.client("ec2").allocate_address(Domain="vpc")


def volumes_under_a_users_key(account: Account) -> None:
    account.ebs_key = account.key()


def volumes_under_a_disabled_key(account: Account) -> None:
    account.ebs_key = account.key()
    account.client("kms").disable_key(KeyId=account.ebs_key.split("/")[-1])


FAULTS = [
    Fault("a type that one zone lacks", in_file("us-east-1b]", "us-east-1e]"),
          "instance type", "chat/l4 g6", "not offered in us-east-1e; it is in us-east-1a"),
    Fault("too few vCPUs on demand", lower(G, 39), "vCPU quota", "Running On-Demand G and VT instances (L-DB2E81BA)",
          "must be at least 40 vCPUs, the sum of the pools' max (got 39)"),
    Fault("a new account's vCPUs", lower(P, 0), "vCPU quota", "Running On-Demand P instances (L-417A185B)",
          "must be at least 32 vCPUs, the sum of the pools' max (got 0)"),
    Fault("too few vCPUs as spot", lower(G_SPOT, 19), "vCPU quota", "All G and VT Spot Instance Requests (L-3819A6DF)",
          "must be at least 20 vCPUs, the sum of the pools' max (got 19)"),
    Fault("too little storage", lower(GP3, 2), "storage quota", "gp3 storage (L-7A658B76)",
          "must be at least 2.3 TiB, the volumes at the pools' max (got 2)"),
    Fault("no VPC left", in_account(vpcs), "quota", "VPCs (L-F678F1CE)", "5 others, 1 for this stack, quota 5"),
    Fault("no address left", in_account(addresses), "quota", "Elastic IPs (L-0263D0A3)",
          "4 others, 2 for this stack, quota 5"),
    Fault("no load balancer left", lower(BALANCERS, 0), "quota", "load balancers (L-53DA6B97)",
          "0 others, 1 for this stack, quota 0"),
    Fault("a parameter that is not there", in_account(parameter_gone), "AMI", AMI_PARAMETER,
          "there is no such parameter", DEPENDS_ON_AMI),
    Fault("a parameter without an AMI", in_account(no_ami), "AMI", AMI_PARAMETER,
          "must hold an AMI's id, holds latest", DEPENDS_ON_AMI),
    Fault("an AMI that is gone", in_account(ami_gone), "AMI", AMI_PARAMETER, "this account cannot see", DEPENDS_ON_AMI),
    Fault("an AMI that is not ready", in_account(ami_pending), "AMI", AMI_PARAMETER, "which is pending"),
    Fault("an AMI for another processor", in_account(lambda account: account.ami(architecture="arm64")),
          "AMI's architecture", "chat/", "the AMI is arm64, "),
    Fault("an AMI with another root", in_account(lambda account: account.ami(root="/dev/xvda")),
          "AMI's root device", "chat/", "the AMI's root is /dev/xvda, the pool's volume /dev/sda1"),
    Fault("an AMI larger than the volume", in_account(lambda account: setattr(account, "root_gib", 201)),
          "root volume", "chat/", "must be at least 201 GiB, the size of the AMI's root (got 200)"),
    Fault("a default key that Auto Scaling may not use", in_account(volumes_under_a_users_key),
          "volumes' key", "default key of EBS", "do not name AWSServiceRoleForAutoScaling"),
    Fault("a default key that is disabled", in_account(volumes_under_a_disabled_key),
          "volumes' key", "default key of EBS", "must be Enabled, is Disabled"),
    Fault("an image's tag that is not there", in_file("serving:1.0", "serving:1.1"), "image", "serving:1.1",
          "no such repository, tag or digest"),
    Fault("an image's digest that is not there", in_file("serving:1.0", f"serving@sha256:{'0' * 64}"), "image",
          "serving@sha256:", "no such repository, tag or digest"),
    Fault("a repository that is not there", in_file("serving:1.0", "servings:1.0"), "image", "servings:1.0",
          "no such repository, tag or digest"),
    Fault("a cache's rule that is not there", in_file("existing_prefix: quay", "existing_prefix: quay2"), "image cache",
          "quay.io as quay2", "no pull-through cache rule with this prefix"),
    Fault("a rule that caches another registry", in_file("quay.io:", "public.ecr.aws:"), "image cache",
          "public.ecr.aws", "caches quay.io, not public.ecr.aws"),
    Fault("a login that is gone", named("hub_login", lambda account: gone(account, PULL + "gone")),
          "image cache's login", "docker.io", "there is no such secret"),
    Fault("a login under a key of one's own",
          named("hub_login", lambda account: account.secret(PULL + "own", account.key())), "image cache's login",
          "docker.io", "must be encrypted with aws/secretsmanager, the only key that ECR can use (got arn:aws:kms:"),
    Fault("a secret that is gone", named("token", gone), "secret", "gone", "there is no such secret",
          frozenset({"secret's key"})),
    Fault("a secret on its way out", in_account(deleted), "secret", "token", "is scheduled for deletion"),
    Fault("a secret without a value", named("token", without_value), "secret", "empty", "has no value yet"),
    Fault("a secret by half its ARN", lambda account: (account.names["token"], account.names["token"][:-7]),
          "secret", "token", "must be the whole ARN, arn:aws:secretsmanager:us-east-1:123456789012:secret:token-"),
    Fault("a secret's key that is disabled", named("api_key", under("disable_key")), "secret's key", "locked",
          "must be Enabled, is Disabled"),
    Fault("a secret's key on its way out", named("api_key", under("schedule_key_deletion")), "secret's key", "locked",
          "must be Enabled, is PendingDeletion"),
    Fault("a certificate that waits for its validation",
          named("certificate", lambda account: account.certificate("PENDING_VALIDATION")),
          "certificate", "", "must be ISSUED, is PENDING_VALIDATION"),
    Fault("a certificate that has run out", named("certificate", lambda account: account.certificate("EXPIRED")),
          "certificate", "", "must be ISSUED, is EXPIRED"),
    Fault("a certificate of another account", named("certificate", lambda _: FOREIGN), "certificate", "",
          "is in account 210987654321, must be in 123456789012"),
    Fault("a certificate that is not there", named("certificate", lambda _: MISSING), "certificate", "",
          "there is no such certificate"),
    Fault("a web ACL that is gone", in_account(acl_gone), "web ACL", "front", "there is no such web ACL"),
    Fault("a topic that is gone", in_account(topic_gone), "alarm topic", "alarms", "there is no such topic",
          frozenset({"alarm topic's key"})),
    Fault("a topic that alarms may not encrypt for",
          named("topic", lambda account: account.topic("sealed", KmsMasterKeyId="alias/aws/sns")),
          "alarm topic's key", "sealed", "alarms may not use alias/aws/sns"),
    Fault("a topic's key that is disabled", named("topic", topic_under_own_key_disabled), "alarm topic's key", "locked",
          "must be Enabled, is Disabled"),
    Fault("all concurrency reserved by others", in_account(lambda account: setattr(account, "unreserved", 0)),
          "Lambda concurrency", "gpu-fleet-test-scaler", "0 of 1000 are unreserved: the scaler could never run"),
]  # fmt: skip


def test_an_image_that_docker_hub_serves_itself_is_a_warning(account: Account, library) -> None:
    text = stack_text(account).replace(account.names["image"], "vllm/vllm-openai:v0.29.0")
    assert with_status(run_checks(library, text), Status.WARNING) == set()
    rows = run_checks(library, text.replace("docker.io: {", "ghcr.io: {"))
    assert with_status(rows, Status.WARNING) == {("image's registry", "chat")}
    assert finding_text(rows, "image's registry", "chat").startswith(
        "warning: Docker Hub serves 10 pulls an hour to each public address, which all instances behind a NAT gateway "
        "share, and this service has up to 12; "
    )


def test_a_first_pull_through_a_cache_needs_more_than_endpoints(account: Account, library) -> None:
    account.network()
    endpoints_but()(account)
    text = stack_text(account, EXISTING_NETWORK).replace(account.names["image"], "vllm/vllm-openai:v0.29.0")
    rows = run_checks(library, text)
    assert {check for check, _ in with_status(rows, Status.WARNING)} == {"way out"}
    assert "only the first pull of vllm/vllm-openai:v0.29.0 needs a NAT gateway" in finding_text(
        rows, "way out", account.names["private_a"]
    )


def own_vpc(account: Account) -> str:
    return account.client("ec2").create_vpc(CidrBlock="10.8.0.0/16")["Vpc"]["VpcId"]


def in_another_vpc(account: Account) -> str:
    return account.subnet(own_vpc(account), "10.8.0.0/24", f"{REGION}b")


def nat_gone(account: Account) -> None:
    """Delete the gateway, so that its route is a blackhole."""
    gateways = account.client("ec2").describe_nat_gateways()["NatGateways"]
    account.client("ec2").delete_nat_gateway(NatGatewayId=gateways[0]["NatGatewayId"])


def endpoints_but(*without: str, private_dns: bool = True) -> Callable[[Account], None]:
    def plant(account: Account) -> None:
        account.no_route("private_table")
        account.endpoints(*without, private_dns=private_dns)

    return plant


def image_of_another_registry(account: Account) -> tuple[str, str]:
    endpoints_but()(account)
    return account.names["image"], "nvcr.io/nvidia/tritonserver:25.01-py3"


def to_internet_gateway(account: Account) -> None:
    account.no_route("private_table")
    account.client("ec2").create_route(
        RouteTableId=account.names["private_table"],
        DestinationCidrBlock="0.0.0.0/0",
        GatewayId=account.names["gateway"],
    )


def crowded(account: Account) -> str:
    """Make a public subnet with seven free addresses: 16, less AWS's five and four in use."""
    ec2 = account.client("ec2")
    made = account.subnet(account.names["vpc"], "10.9.9.0/28", f"{REGION}b")
    ec2.associate_route_table(RouteTableId=account.names["public_table"], SubnetId=made)
    for _ in range(4):
        ec2.create_network_interface(SubnetId=made)
    return made


def second_of_a_zone(account: Account) -> str:
    made = account.subnet(account.names["vpc"], "10.9.9.0/24", f"{REGION}a")
    account.client("ec2").associate_route_table(RouteTableId=account.names["public_table"], SubnetId=made)
    return made


NETWORK_FAULTS = [
    Fault("a VPC that is not there", named("vpc", lambda _: "vpc-0a1b2c3d4e5f67890"), "VPC", "vpc-0a1b2c3d4e5f67890",
          "there is no such VPC", frozenset({"subnet", "internet", "way out"})),
    Fault("a subnet that is not there", named("private_b", lambda _: "subnet-0a1b2c3d4e5f67890"),
          "subnet", "subnet-0a1b2c3d4e5f67890", "there is no such subnet", frozenset({"way out"})),
    Fault("a load balancer's subnet that is not there", named("public_b", lambda _: "subnet-0a1b2c3d4e5f67890"),
          "subnet", "subnet-0a1b2c3d4e5f67890", "there is no such subnet",
          frozenset({"load balancer's zones", "load balancer's addresses", "internet"})),
    Fault("a subnet of another VPC", named("private_b", in_another_vpc), "subnet", "", "must be in vpc-",
          frozenset({"way out"})),
    Fault("zones in another order", in_file("[us-east-1a, us-east-1b]", "[us-east-1b, us-east-1a]"),
          "subnet", "", "zones say us-east-1"),
    Fault("two subnets of the load balancer in a zone", named("public_b", second_of_a_zone),
          "load balancer's zones", "2 subnets", "are both in us-east-1a"),
    Fault("no address for the load balancer", named("public_b", crowded), "load balancer's addresses", "",
          "7 free addresses, a load balancer needs 8"),
    Fault("no route to the internet", in_account(lambda account: account.no_route("public_table")), "internet", "",
          "must have an internet gateway in its default route"),
    Fault("no way out", in_account(lambda account: account.no_route("private_table")), "way out", "",
          "no endpoints of autoscaling, ec2, ecr.api"),
    Fault("a NAT gateway that is gone", in_account(nat_gone), "way out", "",
          "it has none, or its target was deleted"),
    Fault("a way out for public addresses only", in_account(to_internet_gateway), "way out", "",
          "leads to igw-"),
    Fault("one endpoint too few", in_account(endpoints_but("ecr.dkr")), "way out", "", "no endpoints of ecr.dkr"),
    Fault("no endpoint of S3", in_account(endpoints_but("s3")), "way out", "", "no endpoints of s3"),
    Fault("endpoints that no name leads to", in_account(endpoints_but(private_dns=False)), "way out", "",
          "no endpoints of autoscaling"),
    Fault("endpoints alone, and an image of another registry", image_of_another_registry, "way out", "",
          "nvcr.io/nvidia/tritonserver:25.01-py3 cannot be pulled"),
]  # fmt: skip


def assert_only_finding(account: Account, library, fault: Fault, network: str) -> None:
    changed = fault.plant(account)
    text = stack_text(account, network)
    if changed is not None:
        assert changed[0] in text
        text = text.replace(*changed)
    rows = run_checks(library, text)
    wrong = [row for row in rows if row.finding.status is Status.WRONG]
    assert wrong
    for row in wrong:
        assert row.check == fault.check
        assert fault.subject in row.subject
        assert fault.message in row.finding.text
    assert {check for check, _ in with_status(rows, Status.NOT_KNOWN)} == fault.not_known


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_makes_its_row_wrong_and_no_other(account, library, fault):
    assert_only_finding(account, library, fault, NEW_NETWORK)


@pytest.mark.parametrize("fault", NETWORK_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_of_an_existing_vpc_makes_its_row_wrong_and_no_other(account, library, fault):
    account.network()
    assert_only_finding(account, library, fault, EXISTING_NETWORK)


def test_an_unknown_zone_is_reported_with_the_zones_of_the_account(account, library):
    rows = run_checks(library, stack_text(account).replace("us-east-1b]", "us-east-1h]"))
    assert finding_text(rows, "zone", "us-east-1h").startswith("wrong: this account has us-east-1a, us-east-1b, ")
    assert {check for check, _ in with_status(rows, Status.WRONG)} == {"zone", "instance type"}


def test_an_unavailable_zone_is_wrong(account, library):
    zone = next(one for one in RegionsAndZonesBackend.zones[REGION] if one.name == "us-east-1b")
    with mock.patch.object(zone, "state", "unavailable"):
        rows = run_checks(library, stack_text(account))
    assert with_status(rows, Status.WRONG) == {("zone", "us-east-1b")}
    assert finding_text(rows, "zone", "us-east-1b") == "wrong: is unavailable"


def test_a_wrong_row_names_the_key_as_typed_and_its_place(account, library):
    account.names["certificate"] = MISSING
    text = stack_text(account)
    row = next(row for row in run_checks(library, text) if row.finding.status is Status.WRONG)
    line = 1 + next(i for i, line in enumerate(text.splitlines()) if "certificate_arn" in line)
    assert (row.at.file, row.at.line, row.at.column) == ("Pulumi.test.yaml", line, 5)
    assert row.at.key == "gpu-fleet:load_balancer.certificate_arn"


def test_endpoints_are_a_way_out(account, library):
    account.network()
    endpoints_but()(account)
    rows = run_checks(library, stack_text(account, EXISTING_NETWORK))
    assert with_status(rows, Status.WRONG) == set()
    assert finding_text(rows, "way out", account.names["private_a"]) == "ok: by endpoints"


def test_a_subnet_without_a_table_of_its_own_uses_the_main_one(account, library):
    account.network()
    account.names["private_b"] = account.subnet(account.names["vpc"], "10.9.9.0/24", f"{REGION}b")
    rows = run_checks(library, stack_text(account, EXISTING_NETWORK))
    assert with_status(rows, Status.WRONG) == {("way out", account.names["private_b"])}
    ec2 = account.client("ec2")
    tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [account.names["vpc"]]}])["RouteTables"]
    main = next(table for table in tables if any(one["Main"] for one in table["Associations"]))["RouteTableId"]
    transit = ec2.create_transit_gateway()["TransitGateway"]["TransitGatewayId"]
    ec2.create_route(RouteTableId=main, DestinationCidrBlock="0.0.0.0/0", TransitGatewayId=transit)
    rows = run_checks(library, stack_text(account, EXISTING_NETWORK))
    assert finding_text(rows, "way out", account.names["private_b"]) == f"ok: by {transit}"


def test_a_pool_is_checked_in_its_own_zones(account, library):
    text = stack_text(account).replace("us-east-1b]", "us-east-1e]")
    assert {check for check, _ in with_status(run_checks(library, text), Status.WRONG)} == {"instance type"}
    rows = run_checks(library, text.replace("{types: [g6.xlarge", "{zones: [us-east-1a], types: [g6.xlarge"))
    assert with_status(rows, Status.WRONG) == set()
    assert finding_text(rows, "instance type", "g6.xlarge") == "ok: offered in us-east-1a"
    assert finding_text(rows, "instance type", "h100") == "ok: offered in us-east-1a, us-east-1e"


def test_without_named_zones_types_are_checked_in_those_of_the_private_subnets(account, library):
    account.network()
    account.names["private_b"] = account.subnet(account.names["vpc"], "10.9.9.0/24", f"{REGION}e")
    account.client("ec2").associate_route_table(
        RouteTableId=account.names["private_table"], SubnetId=account.names["private_b"]
    )
    rows = run_checks(
        library, stack_text(account, EXISTING_NETWORK).replace("    zones: [us-east-1a, us-east-1b]\n", "")
    )
    assert with_status(rows, Status.WRONG) == {
        ("instance type", "chat/l4 g6.xlarge"), ("instance type", "chat/l4 g6.2xlarge"),
    }  # fmt: skip
    assert finding_text(rows, "instance type", "h100") == "ok: offered in us-east-1a, us-east-1e"


def test_an_internal_load_balancer_needs_no_internet(account, library):
    account.network()
    account.no_route("public_table")
    text = stack_text(account, EXISTING_NETWORK).replace(
        "  gpu-fleet:load_balancer:\n", "  gpu-fleet:load_balancer:\n    internal: true\n"
    )
    rows = run_checks(library, text)
    assert with_status(rows, Status.WRONG) == set()
    assert "internet" not in {row.check for row in rows}


def test_a_users_key_for_volumes_is_ok_if_its_policy_names_auto_scaling(account, library):
    role = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"
    statement = {"Effect": "Allow", "Principal": {"AWS": [role]}, "Action": "kms:Decrypt", "Resource": "*"}
    account.ebs_key = account.key(Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    assert finding_text(run_checks(library, stack_text(account)), "volumes' key").startswith("ok: a key of yours that")


def test_a_users_key_for_volumes_is_ok_if_auto_scaling_has_a_grant(account, library):
    role = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"
    account.ebs_key = account.key()
    account.client("kms").create_grant(KeyId=account.ebs_key, GranteePrincipal=role, Operations=["Decrypt"])
    assert finding_text(run_checks(library, stack_text(account)), "volumes' key").startswith("ok: a key of yours that")


def test_a_missing_service_linked_role_says_who_creates_it(account, library):
    iam = account.client("iam")
    for name in ("AutoScaling", "ElasticLoadBalancing", "EC2Spot"):
        iam.delete_role(RoleName=f"AWSServiceRoleFor{name}")
    rows = run_checks(library, stack_text(account))
    assert with_status(rows, Status.WRONG) == set()
    assert "AWS creates it with the first group" in finding_text(rows, "service-linked role", "AutoScaling")
    assert "AWS creates it with the first load balancer" in finding_text(
        rows, "service-linked role", "ElasticLoadBalancing"
    )
    assert "Auto Scaling creates it with the first spot launch" in finding_text(rows, "service-linked role", "EC2Spot")


def test_the_role_for_spot_is_not_checked_without_spot(account, library):
    rows = run_checks(library, stack_text(account).replace("spot_percent: 50", "spot_percent: 0"))
    assert [row.subject for row in rows if row.check == "service-linked role"] == [
        "AWSServiceRoleForAutoScaling", "AWSServiceRoleForElasticLoadBalancing",
    ]  # fmt: skip
    assert not [row for row in rows if "Spot" in row.subject]


def test_the_stacks_own_resources_do_not_count(account, library):
    account.quotas |= {VPCS: 2, ADDRESSES: 2, BALANCERS: 1}
    ec2, ours = account.client("ec2"), [{"Key": "gpu-fleet:stack", "Value": "gpu-fleet-test"}]
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16", TagSpecifications=[{"ResourceType": "vpc", "Tags": ours}])["Vpc"][
        "VpcId"
    ]
    for _ in range(2):
        ec2.allocate_address(Domain="vpc", TagSpecifications=[{"ResourceType": "elastic-ip", "Tags": ours}])
    subnets = [account.subnet(vpc, f"10.0.{i}.0/24", f"{REGION}{letter}") for i, letter in enumerate("ab")]
    elb = account.client("elbv2")
    elb.create_load_balancer(Name="gpu-fleet-test-0123abc", Subnets=subnets)
    elb.create_load_balancer(Name="streams", Subnets=subnets, Type="network")
    assert with_status(run_checks(library, stack_text(account)), Status.WRONG) == set()
    elb.create_load_balancer(Name="gpu-fleet-tests-0123abc", Subnets=subnets)
    assert with_status(run_checks(library, stack_text(account)), Status.WRONG) == {
        ("quota", "load balancers (L-53DA6B97)")
    }
