"""What a stack's YAML may say, and how it becomes the services of the scaling model.

`StackSettings` is the whole of a `Pulumi.<stack>.yaml`: each field is a key below `gpu-fleet:` (`region` is
`aws:region`). A tool reads the file with `read_stack`, which places every error in it; the Pulumi program reads what
the engine hands it with `from_config`. Both end in `services`, which puts policy, catalog and profiles together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationError, model_validator

from scaling import profile
from scaling.document import Document, DocumentError, Problem, check, check_mapping, parse, suggestion
from scaling.library import Library, PlanProblem, PoolPlan, collect, library, plan_problems
from scaling.policy import LoadUnit, Section
from scaling.service import MAX_POOLS, Alternative, Pool, Service

PROJECT = "gpu-fleet"
"""The project's name in Pulumi.yaml, which is the namespace of its configuration."""

DEFAULT_AMI_PARAMETER = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
"""The Deep Learning Base GPU AMI (NVIDIA driver, Docker and its NVIDIA runtime, SSM agent):
https://docs.aws.amazon.com/dlami/latest/devguide/aws-deep-learning-x86-base-gpu-ami-ubuntu-22-04.html"""


def _matching(pattern: str, meaning: str) -> AfterValidator:
    """A check with a message that says what is wanted instead of showing the expression."""

    def check_text(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f"must be {meaning} (got {value})")
        return value

    return AfterValidator(check_text)


Name = Annotated[
    str, _matching(r"[a-z][a-z0-9-]{0,19}", "a name of 1 to 20 characters a-z, 0-9, - that begins with a-z")
]
"""A service's or pool's name; it becomes part of AWS names and of metric dimensions."""
VariableName = Annotated[str, _matching(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable")]
Zone = Annotated[str, _matching(r"[a-z]{2}(-[a-z]+)+-\d[a-z]", "an availability zone like us-east-1a")]
Cidr = Annotated[str, _matching(r"(\d{1,3}\.){3}\d{1,3}/\d{1,2}", "an IPv4 range like 10.0.0.0/16")]
SubnetId = Annotated[str, _matching(r"subnet-[0-9a-f]{8,17}", "a subnet id like subnet-0a1b2c3d4e5f67890")]


def _arn(service: str) -> AfterValidator:
    return _matching(rf"arn:aws[a-z-]*:{service}:[a-z0-9-]*:\d{{12}}:.+", f"an ARN of {service}")


class Nat(StrEnum):
    """How instances without a public address reach the internet."""

    ONE = "one"
    PER_ZONE = "per_zone"
    NONE = "none"


class NewNetwork(Section):
    """A VPC that the stack makes."""

    cidr: Cidr = "10.0.0.0/16"
    """Address range of the VPC, /16 to /24: a public and a private subnet in each zone are cut from it."""
    zones: Annotated[tuple[Zone, ...], Field(min_length=2, max_length=3)]
    """Availability zones, two or three that have the pools' instance types
    (`aws ec2 describe-instance-type-offerings --location-type availability-zone`)."""
    nat: Nat = Nat.ONE
    """`one` NAT gateway for all zones, one `per_zone`, or `none` (images and models then come through endpoints)."""
    s3_endpoint: bool = True
    """Gateway endpoint for S3: free, and model weights do not pass the NAT gateway."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        _range_of(self.cidr)
        if len(set(self.zones)) < len(self.zones):
            raise ValueError(f"zones: must differ (got {', '.join(self.zones)})")
        return self


class ExistingNetwork(Section):
    """A VPC that is there already."""

    vpc_id: Annotated[str, _matching(r"vpc-[0-9a-f]{8,17}", "a VPC id like vpc-0a1b2c3d4e5f67890")]
    """The VPC."""
    public_subnet_ids: Annotated[tuple[SubnetId, ...], Field(min_length=2)]
    """Subnets of the load balancer, in at least two zones (private ones for an internal load balancer)."""
    private_subnet_ids: Annotated[tuple[SubnetId, ...], Field(min_length=1)]
    """Subnets of the instances; they need a way to the container registry and to AWS's endpoints."""
    zones: tuple[Zone, ...] = ()
    """Zone of each private subnet, in their order; needed for a policy that asks for several zones."""

    @model_validator(mode="after")
    def _zones_match(self) -> Self:
        if self.zones and len(self.zones) != len(self.private_subnet_ids):
            raise ValueError(
                f"zones: must be as many as private_subnet_ids, {len(self.private_subnet_ids)} (got {len(self.zones)})"
            )
        return self


def _kind_of_network(value: Any) -> str:
    keys = value if isinstance(value, Mapping) else getattr(type(value), "model_fields", {})
    return "existing" if "vpc_id" in keys else "new"


Network = Annotated[
    Annotated[NewNetwork, Tag("new")] | Annotated[ExistingNetwork, Tag("existing")], Discriminator(_kind_of_network)
]


def _range_of(cidr: str) -> None:
    import ipaddress

    try:
        network = ipaddress.IPv4Network(cidr)
    except ValueError as error:
        raise ValueError(f"cidr: must be an IPv4 range like 10.0.0.0/16: {error} (got {cidr})") from None
    if not 16 <= network.prefixlen <= 24:
        raise ValueError(f"cidr: must be /16 to /24 (got {cidr})")


class LoadBalancer(Section):
    """The Application Load Balancer, one for all services."""

    certificate_arn: Annotated[str, _arn("acm")] | None = None
    """Certificate of the HTTPS listener; HTTP is then redirected. Unset: HTTP alone."""
    access_logs: bool = False
    """Write access logs to a bucket of the stack."""
    access_log_retention_days: Annotated[int, Field(ge=1)] = 90
    """Access logs are deleted after this time."""
    deletion_protection: bool = False
    """AWS refuses to delete the load balancer while this is on."""
    idle_timeout_seconds: Annotated[int, Field(ge=1, le=4000)] = 600
    """A connection without a byte for this long is closed: longer than the longest answer that is not streamed."""
    waf_acl_arn: Annotated[str, _arn("wafv2")] | None = None
    """Web ACL in front of it."""
    allowed_cidrs: Annotated[tuple[Cidr, ...], Field(min_length=1)] = ("0.0.0.0/0",)
    """Who may connect."""
    internal: bool = False
    """Reachable only from inside the VPC."""


class Scaler(Section):
    """The Lambda that decides."""

    memory_mb: Annotated[int, Field(ge=128, le=10240)] = 512
    """Memory; CPU grows with it."""
    timeout_seconds: Annotated[int, Field(ge=10, le=900)] = 50
    """One run; below 60, so that runs do not queue behind each other."""
    log_retention_days: Annotated[int, Field(ge=1)] = 30
    """Decision log; one of the numbers of days that CloudWatch Logs offers."""
    burst_alarm: bool = True
    """High-resolution alarm on waiting requests that runs the scaler at once."""
    burst_waiting_requests: Annotated[float, Field(gt=0)] = 4
    """Mean waiting requests per instance over 10 s from which the alarm fires."""
    deletion_protection: bool = False
    """AWS refuses to delete the state table while this is on."""

    @model_validator(mode="after")
    def _retention_is_offered(self) -> Self:
        if self.log_retention_days not in LOG_RETENTION_DAYS:
            near = min(LOG_RETENTION_DAYS, key=lambda days: abs(days - self.log_retention_days))
            raise ValueError(
                f"log_retention_days: must be a number of days that CloudWatch Logs offers, like {near} "
                f"(got {self.log_retention_days})"
            )
        return self


LOG_RETENTION_DAYS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip
"""https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html"""


class Observability(Section):
    """Dashboard, alarms, and what happens when the scaler does not."""

    alarm_topic_arn: Annotated[str, _arn("sns")] | None = None
    """Existing topic for alarms."""
    alarm_email: Annotated[str, _matching(r"[^@\s]+@[^@\s]+\.[^@\s]+", "an e-mail address")] | None = None
    """Address that a topic of the stack's own writes to."""
    dashboard: bool = True
    """A dashboard for each service."""
    backstop: bool = True
    """A native step policy that only scales out, for the time when the scaler cannot."""
    backstop_gpu_percent: Annotated[float, Field(gt=0, le=100)] = 95
    """Mean GPU utilisation from which the backstop acts."""
    backstop_minutes: Annotated[int, Field(ge=1, le=60)] = 5
    """For how long it must last: longer than the scaler needs to act itself."""
    backstop_step: Annotated[int, Field(ge=1)] = 1
    """Instances that it adds at a time."""


class Container(Section):
    """The serving container."""

    image: Annotated[str, Field(min_length=1)]
    """Image with tag or digest."""
    args: tuple[str, ...] = ()
    """Arguments of the container, for vLLM those of `vllm serve`."""
    environment: dict[VariableName, str] = Field(default={})
    """Environment variables."""
    secrets: dict[VariableName, Annotated[str, _arn("secretsmanager")]] = Field(default={})
    """Environment variables whose values are secrets of Secrets Manager, by ARN; read at boot."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """Port that it listens on."""
    health_path: Annotated[str, _matching(r"/\S*", "a path that begins with /")] = "/health"
    """Answers 200 once the model does."""


class PoolSettings(Section):
    """One pool of a service."""

    types: Annotated[tuple[str, ...], Field(min_length=1)]
    """Instance types of one GPU class, the first preferred."""
    alternatives: tuple[Annotated[tuple[str, ...], Field(min_length=1)], ...] = ()
    """Types that may take the place of `types`, each list of one GPU class; for a policy with
    `vertical.method: in_place` alone."""
    min: Annotated[int, Field(ge=0, le=1000)]
    """Fewest instances."""
    max: Annotated[int, Field(ge=1, le=1000)]
    """Most instances."""
    gpus_per_copy: Annotated[int, Field(ge=1)] | None = None
    """GPUs that one copy of the model is spread over; unset: all of the instance's. With fewer, an instance serves
    several copies, and the container's arguments must say the same (vLLM: tensor-parallel-size, data-parallel-size)."""
    on_demand_base: Annotated[int, Field(ge=0)] = 0
    """On-demand instances before any spot instance."""
    spot_percent: Annotated[int, Field(ge=0, le=100)] = 0
    """Share of spot instances above the base."""
    volume_gib: Annotated[int, Field(ge=30, le=16384)] = 200
    """Root volume: the system, the image and the model's weights."""
    ami_parameter: Annotated[str, _matching(r"/\S+", "an SSM parameter's name that begins with /")] = (
        DEFAULT_AMI_PARAMETER
    )
    """SSM parameter that holds the AMI's id."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min: must be at most max, {self.max} (got {self.min})")
        places = [(f"types[{i}]", name) for i, name in enumerate(self.types)]
        for i, types in enumerate(self.alternatives):
            places += [(f"alternatives[{i}][{j}]", name) for j, name in enumerate(types)]
        for i, (place, name) in enumerate(places):
            if name in (earlier for _, earlier in places[:i]):
                raise ValueError(f"{place}: must be given once (got {name} twice)")
        return self


class ServiceSettings(Section):
    """One model endpoint."""

    policy: str
    """Name of a file in policies/, without .yaml."""
    paths: tuple[Annotated[str, _matching(r"/\S{0,127}", "a path pattern that begins with /")], ...] = ()
    """Paths that belong to it, like /v1/*."""
    hosts: tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] = ()
    """Host names that belong to it."""
    priority: Annotated[int, Field(ge=1, le=50000)] | None = None
    """Of the listener rule, lowest first; needed where it has paths or hosts (`workload: training` needs neither)."""
    container: Container
    pools: Annotated[dict[Name, PoolSettings], Field(min_length=1, max_length=MAX_POOLS)]
    """One to five, by name; cheaper ones first reads well, the order means nothing."""
    vcpu_quotas: dict[str, Annotated[int, Field(ge=0)]] = Field(default={})
    """vCPUs that this service may use of each EC2 quota, by the quota's name; unset: all that the account has."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if (self.paths or self.hosts) and self.priority is None:
            raise ValueError("priority: must be given where the service has paths or hosts")
        if len(self.paths) + len(self.hosts) > 5:
            raise ValueError(
                f"paths: must be at most 5 together with hosts, the values of one listener rule "
                f"(got {len(self.paths) + len(self.hosts)})"
            )
        return self


class StackSettings(Section):
    """A stack's YAML."""

    region: Annotated[str, _matching(r"[a-z]{2}(-[a-z]+)+-\d", "a region like us-east-1")]
    """AWS region (`aws:region`)."""
    network: Network
    load_balancer: LoadBalancer = LoadBalancer()
    scaler: Scaler = Scaler()
    observability: Observability = Observability()
    tags: dict[str, str] = Field(default={})
    """Tags of everything that can carry them."""
    services: Annotated[dict[Name, ServiceSettings], Field(min_length=1)]
    """Model endpoints, by name."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        zones = self.network.zones
        for i, zone in enumerate(zones):
            if zone[:-1] != self.region:
                raise ValueError(f"network.zones[{i}]: must be a zone of {self.region} (got {zone})")
        used: dict[int, str] = {}
        for name, service in self.services.items():
            if service.priority is None:
                continue
            if service.priority in used:
                raise ValueError(
                    f"services.{name}.priority: must differ from that of {used[service.priority]} "
                    f"(got {service.priority})"
                )
            used[service.priority] = name
        return self


PULUMI_KEYS = ("config", "environment", "encryptionsalt", "encryptedkey", "secretsprovider")
"""What Pulumi itself knows in a stack's file: https://www.pulumi.com/docs/iac/concepts/projects/stack-settings-file/"""

KEYS = tuple(name for name in StackSettings.model_fields if name != "region")
"""The keys below `gpu-fleet:`."""


def stack_file(stack: str) -> str:
    """Name of a stack's file."""
    return f"Pulumi.{stack}.yaml"


def read_stack(root: Path, stack: str) -> tuple[StackSettings, Document]:
    """The settings in a stack's file, and where each of them stands.

    Raises DocumentError with every error in it, or that there is no such file.
    """
    name = stack_file(stack)
    path = root / name
    if not path.is_file():
        there = sorted(p.name[len("Pulumi.") : -len(".yaml")] for p in root.glob("Pulumi.*.yaml"))
        raise DocumentError([Problem(name, 0, 0, "", f"no such stack file; there is {', '.join(there) or 'none'}")])
    return parse_stack(read_text(path), name)


def parse_stack(text: str, file: str) -> tuple[StackSettings, Document]:
    """The settings in a stack file's text, and where each of them stands (paths as in `StackSettings`).

    Raises DocumentError with every error.
    """
    below, problems = _below_config(text, file)
    try:
        settings = check(below, StackSettings)
    except DocumentError as error:
        told = {problem.key for problem in problems}
        wrong = map(_as_typed, error.problems)
        raise DocumentError([*problems, *(problem for problem in wrong if problem.key not in told)]) from None
    if problems:
        raise DocumentError(problems)
    return settings, below


def stack_problems(root: Path, stack: str, library: Library | None) -> list[Problem]:
    """Everything that is wrong in a stack's file, by itself and (where there is one) against the library."""
    try:
        settings, document = read_stack(root, stack)
    except DocumentError as error:
        return [*error.problems, *_early_problems(root, stack, library)]
    if library is None:
        return []
    try:
        services(settings, library, document)
    except DocumentError as error:
        return list(error.problems)
    return []


def _early_problems(root: Path, stack: str, library: Library | None) -> list[Problem]:
    """What does not fit the library in a file that is not right by itself yet: of each service as much as is plain.

    Without it a user would mend a number, only to be told then that the GPU is too small.
    """
    if library is None:
        return []
    try:
        below, _ = _below_config(read_text(root / stack_file(stack)), stack_file(stack))
    except DocumentError:
        return []
    problems: list[Problem] = []
    written = below.data.get("services")
    for name, service in written.items() if isinstance(written, dict) else ():
        pools = service.get("pools") if isinstance(service, dict) else None
        if not isinstance(pools, dict) or not isinstance(service.get("policy"), str):
            continue
        plan: dict[str, PoolPlan] = {}
        for pool_name, value in pools.items():
            try:
                # Bounds are what the file gets wrong most: they do not keep the types from being checked.
                settings = PoolSettings.model_validate(
                    {"min": 0, "max": 1000, "types": value["types"], "alternatives": value.get("alternatives", ())}
                )
            except (ValidationError, TypeError, KeyError, AttributeError):
                continue
            copy = value.get("gpus_per_copy")
            copy = copy if isinstance(copy, int) and copy > 0 else None
            plan[pool_name] = PoolPlan(settings.types, 0, 1000, 0, copy, settings.alternatives)
        problems += [
            _as_typed(below.problem(("services", name, *problem.path), problem.text))
            for problem in plan_problems(service["policy"], plan, library)
            if problem.path != ("pools",)
        ]
    return problems


def _below_config(text: str, file: str) -> tuple[Document, list[Problem]]:
    """The file seen as a `StackSettings` (`config.gpu-fleet:services.chat` becomes `services.chat`), and what is wrong
    around it. Raises DocumentError where there is nothing to see.
    """
    document = parse(text, file)
    config = document.data.get("config") if isinstance(document.data, dict) else None
    if not isinstance(config, dict):
        raise DocumentError([document.problem(("config",), "must be a mapping of keys to values")])
    problems = [
        document.problem((key,), f"unknown key; {suggestion(key, PULUMI_KEYS)}")
        for key in document.data
        if key not in PULUMI_KEYS
    ]
    problems += _encrypted(document, config, ("config",))
    names: dict[tuple[str | int, ...], str] = {}
    for key in config:
        namespace, _, name = key.partition(":")
        if key == "aws:region":
            names["config", key] = "region"
        elif namespace == PROJECT:
            names["config", key] = name
    values = {name: config[path[1]] for path, name in names.items()}
    if "region" not in values:
        place = document.place(("config",))
        problems.append(Problem(place.file, place.line, place.column, "aws:region", "is missing"))
        # Only so that the rest can be checked against some region: this file is refused.
        values["region"] = next((zone[:-1] for zone in _zones(values) if isinstance(zone, str)), "us-east-1")
    keys = {(): document.keys["config",]} | {
        (names[path[:2]], *path[2:]): place for path, place in document.keys.items() if path[:2] in names
    }
    return Document(file, values, keys), problems


def _zones(values: Mapping[str, Any]) -> list[Any]:
    network = values.get("network")
    zones = network.get("zones") if isinstance(network, dict) else None
    return zones if isinstance(zones, list) else []


def _encrypted(document: Document, value: Any, path: tuple[str | int, ...]) -> list[Problem]:
    """Pulumi's encrypted values (`secure: v1:...`) among our keys: they could be checked only when it is too late."""
    if isinstance(value, dict):
        if list(value) == ["secure"] and str(path[1]).startswith(f"{PROJECT}:"):
            said = "must not be encrypted; name a secret of Secrets Manager in container.secrets instead"
            problem = document.problem(path, said)
            return [replace(problem, key=problem.key.removeprefix("config."))]
        return [found for key, inner in value.items() for found in _encrypted(document, inner, (*path, key))]
    if isinstance(value, list):
        return [found for i, inner in enumerate(value) for found in _encrypted(document, inner, (*path, i))]
    return []


def _as_typed(problem: Problem) -> Problem:
    """The key as the file has it: with its namespace."""
    first = re.match(r"[^.\[]+", problem.key)
    if first is None:
        return problem
    key = "aws:region" if first[0] == "region" else f"{PROJECT}:{first[0]}"
    return replace(problem, key=key + problem.key[first.end() :])


def pulumi_config(root: Path, stack: str) -> dict[str, str]:
    """The configuration of a stack as the Pulumi engine hands it to the program: by full key, objects as JSON.

    Raises DocumentError as `read_stack` does, but checks no more than the YAML itself.
    """
    path = root / stack_file(stack)
    if not path.is_file():
        read_stack(root, stack)
    document = parse(read_text(path), path.name)
    config = document.data.get("config", {}) if isinstance(document.data, dict) else {}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}


def from_config(get_object: Callable[[str], Any], region: str, stack: str) -> StackSettings:
    """The settings that the Pulumi engine hands over; `get_object` is `pulumi.Config().get_object`.

    Raises DocumentError with every error; they name the stack's file, whose lines the engine does not tell.
    """
    values = {key: value for key in KEYS if (value := get_object(key)) is not None}
    try:
        return check_mapping({"region": region, **values}, stack_file(stack), StackSettings)
    except DocumentError as error:
        raise DocumentError(map(_as_typed, error.problems)) from None


def placed(error: DocumentError, root: Path, stack: str) -> DocumentError:
    """The errors of the stack's file and policies/ with their lines, where reading them again shows any.

    The engine hands values over without saying where they stood; the file is still there to tell.
    """
    try:
        found, problems = collect(library_texts(root))
    except DocumentError as unread:
        found, problems = None, list(unread.problems)
    problems += stack_problems(root, stack, found)
    return DocumentError(problems) if problems else error


def library_texts(root: Path) -> dict[str, str]:
    """The texts of the library's files by their path, `policies/chat.yaml`.

    Raises DocumentError without the folder, and for files that nobody would read because of their name.
    """
    folder = root / "policies"
    if not folder.is_dir():
        raise DocumentError([Problem("policies", 0, 0, "", "no such folder")])
    misnamed = [path.name for path in sorted(folder.glob("*.yml"))]
    if misnamed:
        raise DocumentError(Problem(f"policies/{name}", 0, 0, "", "must end in .yaml") for name in misnamed)
    return {f"policies/{path.name}": read_text(path, f"policies/{path.name}") for path in sorted(folder.glob("*.yaml"))}


def read_library(root: Path) -> Library:
    """The library of the folder `policies`. Raises DocumentError with every error in its files."""
    return library(library_texts(root))


def read_text(path: Path, name: str | None = None) -> str:
    """A file's text. Raises DocumentError where it is not there, cannot be read or is not UTF-8."""
    name = name or path.name
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DocumentError([Problem(name, 0, 0, "", "no such file")]) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DocumentError([Problem(name, line, 1, "", "must be UTF-8 text")]) from None
    except OSError as error:
        raise DocumentError([Problem(name, 0, 0, "", f"cannot be read: {error.strerror}")]) from None


def service_problems(settings: StackSettings, library: Library) -> list[PlanProblem]:
    """Everything in which the services and the library do not fit together; paths as in `StackSettings`."""
    problems: list[PlanProblem] = []
    quotas = {quota.name for quota in library.catalog.quotas.values()}
    for name, service in settings.services.items():
        plan = {
            pool: PoolPlan(
                value.types, value.min, value.max, value.spot_percent, value.gpus_per_copy, value.alternatives
            )
            for pool, value in service.pools.items()
        }
        at = ("services", name)
        problems += [PlanProblem((*at, *p.path), p.text) for p in plan_problems(service.policy, plan, library)]
        problems += [
            PlanProblem((*at, "vcpu_quotas", quota), f"must be a quota of the catalog: {', '.join(sorted(quotas))}")
            for quota in service.vcpu_quotas
            if quota not in quotas
        ]
        policy = library.policies.get(service.policy)
        if policy is not None and policy.workload == "inference" and not (service.paths or service.hosts):
            problems.append(PlanProblem(at, "must have paths or hosts, by which requests find it"))
        if policy is not None and policy.availability.min_zones > max(1, len(settings.network.zones)):
            problems.append(
                PlanProblem(
                    ("network", "zones"),
                    f"must be at least {policy.availability.min_zones} for policy {service.policy} "
                    f"(got {len(settings.network.zones)})",
                )
            )
    return problems


def services(settings: StackSettings, library: Library, document: Document | None = None) -> tuple[Service, ...]:
    """The stack's services as the scaling model sees them.

    A pool's capacity is that of its weakest type, its price and vCPUs those of its preferred one, and its lead time
    boot and model load of the slowest. With `document` (from `read_stack`) errors have their place.
    Raises DocumentError with everything in which settings, policies, catalog and profiles do not fit together.
    """
    problems = service_problems(settings, library)
    if problems:
        document = document or Document(PROJECT, {}, {(): (0, 0)})
        raise DocumentError(_as_typed(document.problem(p.path, p.text)) for p in problems)
    return tuple(_service(name, value, settings, library) for name, value in settings.services.items())


def _service(name: str, value: ServiceSettings, settings: StackSettings, library: Library) -> Service:
    return Service(
        name=name,
        policy=library.policies[value.policy],
        pools=tuple(
            pool(pool_name, pool_value, value.policy, library, settings.network.zones)
            for pool_name, pool_value in value.pools.items()
        ),
        vcpu_quotas=value.vcpu_quotas,
    )


def pool(name: str, value: PoolSettings, policy_name: str, library: Library, zones: tuple[str, ...] = ()) -> Pool:
    """One pool as the scaling model sees it. The caller has checked that it fits the library."""
    first = _alternative(value.types, value, policy_name, library)
    return Pool(
        **{figure: getattr(first, figure) for figure in Alternative.model_fields},
        name=name,
        min_instances=value.min,
        max_instances=value.max,
        spot_percent=value.spot_percent,
        on_demand_base=value.on_demand_base,
        zones=zones,
        alternatives=tuple(_alternative(types, value, policy_name, library) for types in value.alternatives),
    )


def _alternative(types: tuple[str, ...], value: PoolSettings, policy_name: str, library: Library) -> Alternative:
    """What an instance of these types carries and costs in the pool."""
    policy = library.policies[policy_name]
    kinds = [library.catalog.types[type_name] for type_name in types]
    model = library.profiles.models[policy.model]
    carried: list[tuple[float, profile.Carrying, int, profile.Profile]] = []
    for kind in kinds:
        gpus = value.gpus_per_copy or kind.gpus
        placement = model.placement(kind.gpu, gpus)
        if placement is None:
            raise ValueError(f"{policy.model} has no profile on {gpus} x {kind.gpu}")
        one = profile.carrying(placement, policy.request, policy.slo, policy.load.unit)
        copies = kind.gpus // gpus
        carried.append((one.throughput_rps * copies, one, copies, placement))
    throughput_rps, weakest, copies, slowest = min(carried, key=lambda one: one[0])
    # Load adds up over copies, except where it is a percentage: eight GPUs in full use are 100 % in use.
    load_copies = 1 if policy.load.unit in (LoadUnit.GPU, LoadUnit.KV_CACHE) else copies
    preferred = kinds[0]
    prices = [kind.spot_usd_per_hour for kind in kinds if kind.spot_usd_per_hour is not None]
    return Alternative(
        types=types,
        capacity=weakest.capacity * load_copies,
        throughput_rps=throughput_rps,
        slowdown=weakest.slowdown,
        service_seconds=weakest.service_seconds,
        slots=weakest.slots * copies,
        first_token_seconds=weakest.first_token_seconds,
        copies=copies,
        reaches_slo=weakest.reaches_slo,
        on_demand_usd_per_hour=preferred.on_demand_usd_per_hour,
        spot_usd_per_hour=min(prices) if prices else None,
        vcpus=preferred.vcpus,
        quota=library.catalog.quotas[preferred.quota].name,
        lead_seconds=max(kind.boot_seconds for kind in kinds) + max(one[3].load_seconds for one in carried),
        speed=profile.Speed(**slowest.model_dump(include=set(profile.Speed.model_fields))),
    )
