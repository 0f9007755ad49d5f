"""The registry of resource types: the function that makes each, its clients, names and checked inputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
from botocore.config import Config

Outputs = dict[str, Any]
MadeResource = tuple[str, Outputs]
"""The resource's id, and its outputs in Pulumi's camelCase."""

_SECRET = "4dabf18193072939515e22adb298388d"  # noqa: S105 the SDK's marker of special values, and no secret
RANDOM_DIGITS = 7
"""Number of random digits that Pulumi appends to a name: https://www.pulumi.com/docs/iac/concepts/resources/names/"""


class UnknownResourceError(NotImplementedError):
    """The embedded cloud does not know this resource type or one of its properties."""


@cache
def _session() -> boto3.Session:
    return boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing")  # noqa: S106 moto's placeholder


@cache
def _client(region: str, name: str) -> Any:
    config = Config(retries={"mode": "standard", "max_attempts": 1})
    return _session().client(name, region_name=region, config=config)  # type: ignore[call-overload]


@dataclass(frozen=True, slots=True)
class MotoAccount:
    """The account and region of moto in which resources are made."""

    region: str
    account: str = "123456789012"
    seed: int = 0
    partition: str = "aws"

    def client(self, name: str) -> Any:
        """Return a boto3 client, made once per process because reading a service's model takes a tenth of a second."""
        return _client(self.region, name)

    def arn(self, service: str, resource: str, *, region: bool = True) -> str:
        """Return the ARN of a resource in this account."""
        return f"arn:{self.partition}:{service}:{self.region if region else ''}:{self.account}:{resource}"


class Inputs(Mapping[str, Any]):
    """A resource's inputs, which record each read: an input that nobody reads would be silently lost."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Unwrap secrets, and drop inputs that are None."""
        self._values = {k: v for k, v in unwrap(values).items() if v is not None and not k.startswith("__")}
        self._read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        """Return the value and record the read."""
        self._read.add(key)
        return self._values[key]

    def __contains__(self, key: object) -> bool:
        """Return whether the input is given; this counts as a read."""
        self._read.add(str(key))
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        """Iterate over the given inputs."""
        return iter(self._values)

    def __len__(self) -> int:
        """Return the number of given inputs."""
        return len(self._values)

    @property
    def all(self) -> dict[str, Any]:
        """Every input; this does not count as a read."""
        return dict(self._values)

    def unread(self) -> list[str]:
        """Return the inputs that nobody read."""
        return sorted(set(self._values) - self._read)


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource to make."""

    type: str
    name: str
    """Its name in the program."""
    inputs: Inputs
    physical_name: str
    """Its name at AWS: the given one, or one made from the name in the program as Pulumi does."""


Maker = Callable[[MotoAccount, Resource], MadeResource]


@dataclass(frozen=True, slots=True)
class _Type:
    maker: Maker
    name_key: str
    longest_name: int | None
    no_effect: frozenset[str]


_TYPES: dict[str, _Type] = {}


def makes(
    *tokens: str, named: str = "name", longest_name: int | None = None, no_effect: tuple[str, ...] = ()
) -> Callable[[Maker], Maker]:
    """Register the decorated function for these types.

    `named` is the input with the physical name, `longest_name` AWS's limit for its length; `no_effect` lists inputs
    that change nothing here.
    """

    def register(maker: Maker) -> Maker:
        for token in tokens:
            _TYPES[token] = _Type(maker, named, longest_name, frozenset({*no_effect, named, "tags", "region"}))
        return maker

    return register


def make(aws: MotoAccount, token: str, name: str, values: Mapping[str, Any]) -> MadeResource:
    """Make a resource. Raises UnknownResourceError for an unknown type or property."""
    type_ = _TYPES.get(token)
    if type_ is None:
        raise UnknownResourceError(
            f"{name} ({token}): the embedded cloud does not know this type; "
            "add it in gpu_fleet/emulator/provider/ (known types: " + ", ".join(sorted(_TYPES)) + ")"
        )
    inputs = Inputs(values)
    physical = inputs.get(type_.name_key) or _autoname(aws, name, token, type_.longest_name, inputs)
    resource = Resource(token, name, inputs, physical)
    identity, outputs = type_.maker(aws, resource)
    unread = [key for key in inputs.unread() if key not in type_.no_effect]
    if unread:
        raise UnknownResourceError(
            f"{name} ({token}): the embedded cloud does not know {', '.join(unread)}; "
            "add it in gpu_fleet/emulator/provider/"
        )
    tags = inputs.get("tags") or {}
    return identity, {type_.name_key: physical, "tagsAll": tags, "region": aws.region, **inputs.all, **outputs}


def _autoname(aws: MotoAccount, name: str, token: str, longest: int | None, inputs: Inputs) -> str:
    prefix = inputs.get("namePrefix") or f"{name}-"
    if longest is not None and len(prefix) + RANDOM_DIGITS > longest:
        raise ValueError(
            f"{name} ({token}): name {prefix!r} plus {RANDOM_DIGITS} random characters is longer than "
            f"the {longest} that AWS allows"
        )
    return prefix + hashlib.sha256(f"{aws.seed}/{token}/{name}".encode()).hexdigest()[:RANDOM_DIGITS]


def unwrap(value: Any) -> Any:
    """Return the value with all its secrets unwrapped."""
    if isinstance(value, Mapping):
        if _SECRET in value and "value" in value:
            return unwrap(value["value"])
        return {k: unwrap(v) for k, v in value.items()}
    if isinstance(value, list):
        return [unwrap(v) for v in value]
    return value


def without_none(**arguments: Any) -> dict[str, Any]:
    """Return the arguments that are not None."""
    return {k: v for k, v in arguments.items() if v is not None}


def json_text(value: Any) -> str:
    """Return a document, given as text or as its content, as JSON text."""
    return value if isinstance(value, str) else json.dumps(value)


def pascal_case(value: Any) -> Any:
    """Return the value with nested keys in the API's spelling: maxPrice -> MaxPrice."""
    if isinstance(value, Mapping):
        return {k[:1].upper() + k[1:]: pascal_case(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [pascal_case(v) for v in value]
    return value


def to_int(value: float | str | None) -> int | None:
    """Return a number of the program, where Pulumi has only floats, as an integer; None stays None."""
    return None if value is None else int(value)


def to_bool(value: Any) -> bool | None:
    """Return a boolean, which a launch template may spell "true" or "false"; None stays None."""
    return value if value is None or isinstance(value, bool) else str(value).lower() == "true"


def tag_list(inputs: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the tags in the form of most APIs."""
    return [{"Key": k, "Value": str(v)} for k, v in sorted((inputs.get("tags") or {}).items())]


def tag_map(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags in the form of Lambda, SQS and CloudWatch Logs."""
    return {tag["Key"]: tag["Value"] for tag in tag_list(inputs)}


def tags_argument(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the argument Tags, or no argument without tags: APIs refuse an empty list."""
    tags = tag_list(inputs)
    return {"Tags": tags} if tags else {}


def tag_specification(resource: Resource, resource_type: str) -> list[dict[str, Any]]:
    """Return the tags in EC2's form."""
    tags = tag_list(resource.inputs)
    return [{"ResourceType": resource_type, "Tags": tags}] if tags else []
