"""The service parameter: a service of the model, and its AWS resources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pydantic import ValidationError, model_validator

from gpu_fleet.scaling.policy import Section
from gpu_fleet.scaling.service import Service
from lambdas.scaler.result import ErrorCode, Fault

if TYPE_CHECKING:
    from types_boto3_ssm import SSMClient


class PoolBinding(Section):
    """The AWS resources of one pool."""

    group: str
    """Name of the Auto Scaling group."""
    target_group_arn: str | None = None
    """None for training, which takes no requests."""

    @property
    def target_group(self) -> str:
        """CloudWatch's dimension TargetGroup: `targetgroup/<name>/<id>`."""
        return (self.target_group_arn or "").rpartition(":")[2]


class Bindings(Section):
    """The AWS resources of one service."""

    load_balancer: str | None = None
    """CloudWatch's dimension LoadBalancer: `app/<name>/<id>`."""
    listener_rule_arn: str | None = None
    hash_rule_arns: tuple[str, ...] = ()
    """Rules by the digit that a client's header ends in, in the order of `gpu_fleet.scaling.hashing.DIGITS`; empty
    without `routing.strategy: hash`."""
    queue_url: str | None = None
    """The SQS queue of jobs, for training."""
    pools: dict[str, PoolBinding]

    @property
    def rule_arns(self) -> tuple[str, ...]:
        """All listener rules that forward to the service."""
        return (self.listener_rule_arn, *self.hash_rule_arns) if self.listener_rule_arn else ()

    @property
    def queue_name(self) -> str:
        """CloudWatch's dimension QueueName; empty without a queue."""
        return (self.queue_url or "").rpartition("/")[2]


class ServiceParameter(Section):
    """The content of `/gpu-fleet/<stack>/services/<service>`, written by the Pulumi program."""

    service: Service
    bindings: Bindings

    @model_validator(mode="after")
    def _each_pool_is_bound(self) -> Self:
        pools, bound = {pool.name for pool in self.service.pools}, set(self.bindings.pools)
        if pools != bound:
            raise ValueError(
                f"bindings.pools: must name the service's pools {sorted(pools)} and no others (got {sorted(bound)})"
            )
        if self.bindings.listener_rule_arn and not all(p.target_group_arn for p in self.bindings.pools.values()):
            raise ValueError("bindings.pools: each needs a target_group_arn if listener_rule_arn is set")
        return self

    @property
    def name(self) -> str:
        """The service's name."""
        return self.service.name


@dataclass(frozen=True, slots=True)
class ServiceParameters:
    """All parameters under the path."""

    read: tuple[ServiceParameter, ...]
    broken: dict[str, Fault]
    """Faults of parameters that could not be parsed, by service (from the parameter's name). The others still run."""


def read(ssm: SSMClient, path: str) -> ServiceParameters:
    """Read every service parameter under `path`, in the order of names. Raises botocore's errors."""
    texts: dict[str, str] = {}
    for page in ssm.get_paginator("get_parameters_by_path").paginate(Path=path, Recursive=False):
        for parameter in page["Parameters"]:
            texts[parameter.get("Name", "").rpartition("/")[2]] = parameter.get("Value", "")
    read: list[ServiceParameter] = []
    broken: dict[str, Fault] = {}
    for name in sorted(texts):
        try:
            read.append(parse(name, texts[name]))
        except ValueError as error:
            broken[name] = Fault(ErrorCode.BROKEN_PARAMETER, f"{path}/{name}: {error}", "GetParametersByPath")
    return ServiceParameters(tuple(read), broken)


def parse(name: str, text: str) -> ServiceParameter:
    """Parse the parameter `name` from its JSON. Raises ValueError that names the key of each mistake."""
    try:
        parameter = ServiceParameter.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(
            "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']}" for e in error.errors())
        ) from error
    if parameter.name != name:
        raise ValueError(f"service.name: must be the parameter's own name {name} (got {parameter.name})")
    return parameter
