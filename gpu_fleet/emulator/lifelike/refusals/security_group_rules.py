"""Rules of security groups: no duplicates, and the alphabet of names and descriptions."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, NamedTuple

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import security_groups

from gpu_fleet.emulator.lifelike.difference import Difference, Patches, arguments

DIFFERENCE = Difference(
    name="rules of security groups",
    moto=(
        "accepts a change that makes two rules equal, names that begin with sg-, and descriptions of any length and "
        "character"
    ),
    aws=(
        "a second equal rule is InvalidPermission.Duplicate: documented for new rules, and assumed here for modified "
        "ones, for which no page says either; names and descriptions have at most 255 characters of an alphabet"
    ),
    source=(
        "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html "
        "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifySecurityGroupRules.html "
        "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSecurityGroup.html"
    ),
)

_ALPHABET = r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{1,255}"
"""Of names and descriptions in a VPC: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSecurityGroup.html"""


class _Rule(NamedTuple):
    """What makes two rules equal; without a CIDR they never are."""

    protocol: str
    from_port: str
    to_port: str
    cidr: str


def patch_moto(patches: Patches) -> None:
    """Check requests before moto acts."""
    backend = security_groups.SecurityGroupBackend
    patches.wrap(backend, "create_security_group", create_security_group)
    patches.wrap(backend, "modify_security_group_rules", modify_security_group_rules)


def create_security_group(moto: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """CreateSecurityGroup with a valid name and description."""
    request = arguments(moto, backend, *args, **kwargs)
    name, description = request["name"], request["description"]
    if name.startswith("sg-"):
        raise EC2ClientError("InvalidParameterValue", f"Value ({name}) for parameter GroupName is invalid.")
    for parameter, text in (("GroupName", name), ("GroupDescription", description)):
        if text and not re.fullmatch(_ALPHABET, text):
            raise EC2ClientError(
                "InvalidParameterValue",
                f"Value ({text}) for parameter {parameter} is invalid. Character sets beyond ASCII are not supported.",
            )
    return moto(backend, *args, **kwargs)


def modify_security_group_rules(moto: Any, backend: Any, group_id: str, rules: dict[str, dict[str, Any]]) -> None:
    """ModifySecurityGroupRules without making two rules equal."""
    group = backend.get_security_group_by_name_or_id(group_id)
    if group is not None:
        for side in (group.ingress_rules, group.egress_rules):
            after = [_requested(rules[rule.id]) if rule.id in rules else _present(rule) for rule in side]
            for rule, new in zip(side, after, strict=True):
                if rule.id in rules and new.cidr and after.count(new) > 1:
                    raise EC2ClientError(
                        "InvalidPermission.Duplicate",
                        f'the specified rule "peer: {new.cidr}, {new.protocol.upper()}, from port: {new.from_port}, '
                        f'to port: {new.to_port}, ALLOW" already exists',
                    )
    moto(backend, group_id, rules)


def _requested(rule: dict[str, Any]) -> _Rule:
    return _Rule(
        str(rule.get("IpProtocol")), str(rule.get("FromPort")), str(rule.get("ToPort")), _network(rule.get("CidrIpv4"))
    )


def _present(rule: Any) -> _Rule:
    return _Rule(
        str(rule.ip_protocol), str(rule.from_port), str(rule.to_port), _network((rule.ip_range or {}).get("CidrIp"))
    )


def _network(cidr: str | None) -> str:
    return str(ipaddress.ip_network(cidr, strict=False)) if cidr else ""
