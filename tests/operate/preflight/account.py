"""An account in moto in which a stack's `pulumi up` would succeed; tests remove things from it.

Moto does not know most quotas, Lambda's limits, EBS's default key and the size of an AMI's root. This module answers
for it, in the shapes of botocore's models.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import boto3
from botocore.validate import validate_parameters
from moto import mock_aws
from moto.acm.models import acm_backends
from moto.awslambda import urls as lambda_urls
from moto.awslambda.responses import LambdaResponse
from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.ec2.models.amis import Ami
from moto.ec2.models.route_tables import Route
from moto.ec2.responses import EC2Response
from moto.servicequotas.exceptions import NoSuchResource
from moto.servicequotas.responses import ServiceQuotasResponse

from gpu_fleet.emulator.lifelike import pull_through_cache
from gpu_fleet.emulator.lifelike.difference import Patches
from infra.network import ENDPOINTS

ACCOUNT, REGION = "123456789012", "us-east-1"
G, P, G_SPOT = ("ec2", "L-DB2E81BA"), ("ec2", "L-417A185B"), ("ec2", "L-3819A6DF")
GP3, VPCS, ADDRESSES = ("ebs", "L-7A658B76"), ("vpc", "L-F678F1CE"), ("ec2", "L-0263D0A3")
BALANCERS = ("elasticloadbalancing", "L-53DA6B97")
AMI_PARAMETER = "/images/gpu"


SESSION = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing")
"""One for all tests: reading botocore's models takes longer than a test."""


@dataclass
class Account:
    """What the account has; tests change it."""

    quotas: dict[tuple[str, str], float] = field(
        default_factory=lambda: {G: 64, P: 64, G_SPOT: 64, GP3: 50, ADDRESSES: 5}
    )
    """Quotas that AWS has raised for this account."""
    default_quotas: dict[tuple[str, str], float] = field(default_factory=lambda: {VPCS: 5, BALANCERS: 50})
    concurrency: int = 1000
    unreserved: int = 1000
    ebs_key: str = "alias/aws/ebs"
    root_gib: int = 50
    names: dict[str, str] = field(default_factory=dict)
    """Ids and ARNs of resources by their names in braces in the stack's text."""

    def client(self, service: str, region: str = REGION) -> Any:
        make: Any = SESSION.client
        return make(service, region_name=region)

    # ---- what the stack names -------------------------------------------------------------------------------------

    def fill(self) -> None:
        """Create everything that both stacks of the tests name."""
        self.names |= {
            "certificate": self.certificate("ISSUED"),
            "acl": self.acl(),
            "topic": self.topic("alarms"),
            "token": self.secret("token"),
            "api_key": self.secret("api-key", self.key()),
            "hub_login": self.secret("ecr-pullthroughcache/hub"),
            "image": self.image("serving", "1.0"),
            "ami_parameter": AMI_PARAMETER,
        }
        self.client("ecr").create_pull_through_cache_rule(ecrRepositoryPrefix="quay", upstreamRegistryUrl="quay.io")
        self.ami()
        for name in ("AutoScaling", "ElasticLoadBalancing", "EC2Spot"):
            trust = '{"Version": "2012-10-17", "Statement": []}'
            self.client("iam").create_role(RoleName=f"AWSServiceRoleFor{name}", AssumeRolePolicyDocument=trust)

    def certificate(self, status: str) -> str:
        arn = self.client("acm").request_certificate(DomainName="chat.example.com")["CertificateArn"]
        acm_backends[ACCOUNT][REGION]._certificates[arn].status = status
        return arn

    def acl(self) -> str:
        made = self.client("wafv2").create_web_acl(
            Name="front",
            Scope="REGIONAL",
            DefaultAction={"Allow": {}},
            VisibilityConfig={
                "SampledRequestsEnabled": False, "CloudWatchMetricsEnabled": False, "MetricName": "front",
            },
        )  # fmt: skip
        return made["Summary"]["ARN"]

    def topic(self, name: str, **attributes: str) -> str:
        return self.client("sns").create_topic(Name=name, Attributes=attributes)["TopicArn"]

    def key(self, **policy: str) -> str:
        return self.client("kms").create_key(**policy)["KeyMetadata"]["Arn"]

    def secret(self, name: str, key: str | None = None) -> str:
        under = {"KmsKeyId": key} if key else {}
        return self.client("secretsmanager").create_secret(Name=name, SecretString="s", **under)["ARN"]

    def image(self, repository: str, tag: str) -> str:
        ecr = self.client("ecr")
        uri = ecr.create_repository(repositoryName=repository)["repository"]["repositoryUri"]
        manifest = '{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}'
        ecr.put_image(repositoryName=repository, imageManifest=manifest, imageTag=tag)
        return f"{uri}:{tag}"

    def ami(self, architecture: str = "x86_64", root: str = "/dev/sda1") -> str:
        """Create an AMI, and the parameter that the stack names."""
        image = self.client("ec2").register_image(Name="gpu")["ImageId"]
        made = ec2_backends[ACCOUNT][REGION].amis[image]  # moto ignores other properties at registration
        made.architecture, made.root_device_name = architecture, root
        self.client("ssm").put_parameter(Name=AMI_PARAMETER, Value=image, Type="String", Overwrite=True)
        return image

    # ---- a network ------------------------------------------------------------------------------------------------

    def network(self) -> None:
        """Create a VPC: two public and two private subnets in zones a and b, an internet gateway and a NAT gateway."""
        ec2 = self.client("ec2")
        self.names["vpc"] = vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        ranges = itertools.count()
        for side in ("public", "private"):
            for letter in "ab":
                self.names[f"{side}_{letter}"] = self.subnet(vpc, f"10.9.{next(ranges)}.0/24", f"{REGION}{letter}")
        gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
        address = ec2.allocate_address(Domain="vpc")["AllocationId"]
        nat = ec2.create_nat_gateway(AllocationId=address, SubnetId=self.names["public_a"])
        self.names |= {
            "public_table": self.table(vpc, "public", GatewayId=gateway),
            "private_table": self.table(vpc, "private", NatGatewayId=nat["NatGateway"]["NatGatewayId"]),
            "gateway": gateway,
        }

    def subnet(self, vpc: str, cidr: str, zone: str) -> str:
        made = self.client("ec2").create_subnet(VpcId=vpc, CidrBlock=cidr, AvailabilityZone=zone)
        return made["Subnet"]["SubnetId"]

    def table(self, vpc: str, side: str, **target: str) -> str:
        """Create a route table for the public or private subnets, with a default route to the target."""
        ec2 = self.client("ec2")
        table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
        ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", **target)
        for letter in "ab":
            ec2.associate_route_table(RouteTableId=table, SubnetId=self.names[f"{side}_{letter}"])
        return table

    def no_route(self, table: str) -> None:
        self.client("ec2").delete_route(RouteTableId=self.names[table], DestinationCidrBlock="0.0.0.0/0")

    def endpoints(self, *without: str, private_dns: bool = True) -> None:
        ec2, vpc = self.client("ec2"), self.names["vpc"]
        for service in set(ENDPOINTS) - set(without):
            ec2.create_vpc_endpoint(
                VpcId=vpc,
                ServiceName=f"com.amazonaws.{REGION}.{service}",
                VpcEndpointType="Interface",
                SubnetIds=[self.names["private_a"]],
                PrivateDnsEnabled=private_dns,
            )
        if "s3" not in without:
            ec2.create_vpc_endpoint(
                VpcId=vpc, ServiceName=f"com.amazonaws.{REGION}.s3", RouteTableIds=[self.names["private_table"]]
            )


@contextlib.contextmanager
def an_account() -> Iterator[Account]:
    """Run moto with everything that the tests' stacks name."""
    account = Account()

    def answer(operation: str, service: str, value: dict[str, Any]) -> ActionResult:
        model = account.client(service).meta.service_model
        validate_parameters(value, model.operation_model(operation).output_shape)
        return ActionResult(value)

    def quota(response: ServiceQuotasResponse, operation: str, quotas: dict[tuple[str, str], float]) -> ActionResult:
        service, code = response._get_param("ServiceCode"), response._get_param("QuotaCode")
        if (service, code) not in quotas:
            raise NoSuchResource
        found = {"ServiceCode": service, "QuotaCode": code, "Value": float(quotas[service, code])}
        return answer(operation, "service-quotas", {"Quota": found})

    def get_service_quota(self: ServiceQuotasResponse) -> ActionResult:
        return quota(self, "GetServiceQuota", account.quotas)

    def get_aws_default_service_quota(self: ServiceQuotasResponse) -> ActionResult:
        return quota(self, "GetAWSDefaultServiceQuota", account.default_quotas)

    def get_account_settings(self: LambdaResponse) -> ActionResult:
        limit = {"ConcurrentExecutions": account.concurrency, "UnreservedConcurrentExecutions": account.unreserved}
        return answer("GetAccountSettings", "lambda", {"AccountLimit": limit})

    def get_ebs_default_kms_key_id(self: EC2Response) -> ActionResult:
        return answer("GetEbsDefaultKmsKeyId", "ec2", {"KmsKeyId": account.ebs_key})

    def block_device_mappings(self: Ami) -> list[dict[str, Any]]:
        ebs = {"SnapshotId": self.ebs_snapshot.id, "VolumeSize": account.root_gib, "VolumeType": "gp3"}
        return [
            {"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"},
            {"DeviceName": self.root_device_name, "Ebs": ebs},
        ]

    def state(self: Route) -> str:
        """Return the state of a route whose NAT gateway may be deleted: https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-working-with.html"""
        gone = self.nat_gateway is not None and self.nat_gateway.state == "deleted"
        return "blackhole" if gone else "active"

    settings = {r"{0}/(?P<api_version>[^/]+)/account-settings/?$": LambdaResponse.dispatch}
    with (
        mock_aws(),
        mock.patch.object(ServiceQuotasResponse, "get_service_quota", get_service_quota),
        mock.patch.object(
            ServiceQuotasResponse, "get_aws_default_service_quota", get_aws_default_service_quota, create=True
        ),
        mock.patch.object(LambdaResponse, "get_account_settings", get_account_settings, create=True),
        mock.patch.dict(lambda_urls.url_paths, settings),
        mock.patch.object(EC2Response, "get_ebs_default_kms_key_id", get_ebs_default_kms_key_id, create=True),
        mock.patch.object(Ami, "block_device_mappings", property(block_device_mappings)),
        mock.patch.object(Route, "state", property(state)),
        Patches() as patches,
    ):
        pull_through_cache.patch_moto(patches)
        account.fill()
        yield account
