"""Which function makes which resource type, and what it needs: clients, names, inputs that account for themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
from botocore.config import Config

Outputs = dict[str, Any]
Made = tuple[str, Outputs]
"""The resource's id, and its outputs in Pulumi's camelCase."""

_SECRET = "4dabf18193072939515e22adb298388d"  # noqa: S105 the SDK's marker of special values, and no secret
RANDOM_DIGITS = 7
"""As many as Pulumi puts behind a name: https://www.pulumi.com/docs/iac/concepts/resources/names/"""


class UnknownResourceError(NotImplementedError):
    """The embedded cloud has no such resource, or does not know one of its properties."""


@cache
def _session() -> boto3.Session:
    return boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing")  # noqa: S106 moto's word for: none


@cache
def _client(region: str, name: str) -> Any:
    config = Config(retries={"mode": "standard", "max_attempts": 1})
    return _session().client(name, region_name=region, config=config)  # type: ignore[call-overload]


@dataclass(frozen=True, slots=True)
class MotoAccount:
    """Where resources are made: one account and region of moto."""

    region: str
    account: str = "123456789012"
    seed: int = 0
    partition: str = "aws"

    def client(self, name: str) -> Any:
        """A boto3 client of the service, made once in a process: reading a service's model takes a tenth of a
        second.
        """
        return _client(self.region, name)

    def arn(self, service: str, resource: str, *, region: bool = True) -> str:
        """An ARN in this account."""
        return f"arn:{self.partition}:{service}:{self.region if region else ''}:{self.account}:{resource}"


class Inputs(Mapping[str, Any]):
    """A resource's inputs, which know what of them was read: what nobody reads would be silently lost."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Inputs without secrets' wrapping; what is None is taken as not given."""
        self._values = {k: v for k, v in unwrap(values).items() if v is not None and not k.startswith("__")}
        self._read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        """The value, now read."""
        self._read.add(key)
        return self._values[key]

    def __contains__(self, key: object) -> bool:
        """Whether it was given; this counts as reading."""
        self._read.add(str(key))
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        """All keys given."""
        return iter(self._values)

    def __len__(self) -> int:
        """How many were given."""
        return len(self._values)

    @property
    def all(self) -> dict[str, Any]:
        """Every input, without counting as read."""
        return dict(self._values)

    def unread(self) -> list[str]:
        """What nobody asked for."""
        return sorted(set(self._values) - self._read)


@dataclass(frozen=True, slots=True)
class Resource:
    """What is to be made."""

    type: str
    name: str
    """Its name in the program."""
    inputs: Inputs
    physical_name: str
    """Its name at AWS: as given, or made from the name in the program as Pulumi does."""


Maker = Callable[[MotoAccount, Resource], Made]


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
    """The decorated function makes these types.

    `named` is the input with the physical name, `longest_name` AWS's limit for it; `no_effect` are inputs that
    change nothing
    here.
    """

    def register(maker: Maker) -> Maker:
        for token in tokens:
            _TYPES[token] = _Type(maker, named, longest_name, frozenset({*no_effect, named, "tags", "region"}))
        return maker

    return register


def known_types() -> list[str]:
    """All types that can be made."""
    return sorted(_TYPES)


def make(aws: MotoAccount, token: str, name: str, values: Mapping[str, Any]) -> Made:
    """Make a resource. Raises UnknownResourceError for a type or a property that is not known here."""
    kind = _TYPES.get(token)
    if kind is None:
        raise UnknownResourceError(
            f"{name} ({token}): the embedded cloud does not know this type; "
            "teach it in gpu_fleet/emulator/provider/ (it knows " + ", ".join(known_types()) + ")"
        )
    inputs = Inputs(values)
    physical = inputs.get(kind.name_key) or _autoname(aws, name, token, kind.longest_name, inputs)
    resource = Resource(token, name, inputs, physical)
    identity, outputs = kind.maker(aws, resource)
    unread = [key for key in inputs.unread() if key not in kind.no_effect]
    if unread:
        raise UnknownResourceError(
            f"{name} ({token}): the embedded cloud does not know {', '.join(unread)}; "
            "teach it in gpu_fleet/emulator/provider/"
        )
    tags = inputs.get("tags") or {}
    return identity, {kind.name_key: physical, "tagsAll": tags, "region": aws.region, **inputs.all, **outputs}


def _autoname(aws: MotoAccount, name: str, token: str, longest: int | None, inputs: Inputs) -> str:
    prefix = inputs.get("namePrefix") or f"{name}-"
    if longest is not None and len(prefix) + RANDOM_DIGITS > longest:
        raise ValueError(
            f"{name} ({token}): name {prefix!r} plus {RANDOM_DIGITS} random characters is longer than "
            f"the {longest} that AWS allows"
        )
    return prefix + hashlib.sha256(f"{aws.seed}/{token}/{name}".encode()).hexdigest()[:RANDOM_DIGITS]


def unwrap(value: Any) -> Any:
    """The value with every secret in it laid open."""
    if isinstance(value, Mapping):
        if _SECRET in value and "value" in value:
            return unwrap(value["value"])
        return {k: unwrap(v) for k, v in value.items()}
    if isinstance(value, list):
        return [unwrap(v) for v in value]
    return value


def given(**arguments: Any) -> dict[str, Any]:
    """The arguments that are not None."""
    return {k: v for k, v in arguments.items() if v is not None}


def pascal(value: Any) -> Any:
    """Nested keys as the API spells them: maxPrice -> MaxPrice."""
    if isinstance(value, Mapping):
        return {k[:1].upper() + k[1:]: pascal(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [pascal(v) for v in value]
    return value


def whole(value: float | str | None) -> int | None:
    """A number of the program (Pulumi's are floats) as an integer."""
    return None if value is None else int(value)


def true(value: Any) -> bool:
    """A boolean, or what stands for one in a launch template ("true", "false")."""
    return value if isinstance(value, bool) else str(value).lower() == "true"


def tag_list(inputs: Mapping[str, Any]) -> list[dict[str, str]]:
    """The tags as most APIs take them."""
    return [{"Key": k, "Value": str(v)} for k, v in sorted((inputs.get("tags") or {}).items())]


def tagged(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The argument Tags, where there are any: an empty list is refused."""
    tags = tag_list(inputs)
    return {"Tags": tags} if tags else {}


def tag_specification(resource: Resource, kind: str) -> list[dict[str, Any]]:
    """The tags as EC2 takes them."""
    tags = tag_list(resource.inputs)
    return [{"ResourceType": kind, "Tags": tags}] if tags else []
