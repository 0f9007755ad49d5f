"""The subnets of an existing VPC, as AWS describes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpu_fleet.config.settings import ExistingNetwork
from gpu_fleet.operate.preflight.aws import ReadOnlyAws


def described(aws: ReadOnlyAws, network: ExistingNetwork) -> Mapping[str, Mapping[str, Any]]:
    """Return the subnets that exist, by id.

    The call filters by id: EC2 refuses a call with an unknown id as a whole.
    """
    ids = sorted({*network.public_subnet_ids, *network.private_subnet_ids})
    answer = aws.get("ec2", "DescribeSubnets", Filters=[{"Name": "subnet-id", "Values": ids}])
    return {subnet["SubnetId"]: subnet for subnet in answer.get("Subnets", ())}
