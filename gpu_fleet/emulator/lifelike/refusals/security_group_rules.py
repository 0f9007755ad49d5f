"""Rules of security groups: none twice, and a range begins at its own address."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import security_groups

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="rules of security groups",
    moto=(
        "lets a rule become what another already is, and takes names that begin with sg- and descriptions of any "
        "length and character"
    ),
    aws=(
        "a rule that is there is InvalidPermission.Duplicate: documented of rules as such, and assumed here of "
        "modified ones too, for which no page says either; names and descriptions have 255 characters of an alphabet"
    ),
    source=(
        "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html "
        "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifySecurityGroupRules.html "
        "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSecurityGroup.html"
    ),
)

_ALPHABET = r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{1,255}"
"""Of names and descriptions in a VPC: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSecurityGroup.html"""


def mend(patches: Patches) -> None:
    """Check before moto acts."""
    backend = security_groups.SecurityGroupBackend

    def create_security_group(self: Any, name: str, description: str, *more: Any, **named: Any) -> Any:
        if name.startswith("sg-"):
            raise EC2ClientError("InvalidParameterValue", f"Value ({name}) for parameter GroupName is invalid.")
        for what, text in (("GroupName", name), ("GroupDescription", description)):
            if text and not re.fullmatch(_ALPHABET, text):
                raise EC2ClientError(
                    "InvalidParameterValue",
                    f"Value ({text}) for parameter {what} is invalid. Character sets beyond ASCII are not supported.",
                )
        return moto_create(self, name, description, *more, **named)

    def modify_security_group_rules(self: Any, group_id: str, rules: dict[str, dict[str, Any]]) -> None:
        group = self.get_security_group_by_name_or_id(group_id)
        if group is not None:
            for side in (group.ingress_rules, group.egress_rules):
                after = [_said(rules.get(rule.id)) or _rule(rule) for rule in side]
                for rule, is_to_be in zip(side, after, strict=True):
                    if rule.id in rules and is_to_be[-1] and after.count(is_to_be) > 1:
                        protocol, first, last, cidr = is_to_be
                        raise EC2ClientError(
                            "InvalidPermission.Duplicate",
                            f'the specified rule "peer: {cidr}, {protocol.upper()}, from port: {first}, to port: '
                            f'{last}, ALLOW" already exists',
                        )
        moto_modify(self, group_id, rules)

    moto_create = patches.put(backend, "create_security_group", create_security_group)
    moto_modify = patches.put(backend, "modify_security_group_rules", modify_security_group_rules)


def _said(new: dict[str, Any] | None) -> tuple[str, str, str, str] | None:
    if new is None:
        return None
    return (
        str(new.get("IpProtocol")), str(new.get("FromPort")), str(new.get("ToPort")), _range(new.get("CidrIpv4"))
    )  # fmt: skip


def _rule(rule: Any) -> tuple[str, str, str, str]:
    return (
        str(rule.ip_protocol), str(rule.from_port), str(rule.to_port), _range((rule.ip_range or {}).get("CidrIp"))
    )  # fmt: skip


def _range(cidr: str | None) -> str:
    return str(ipaddress.ip_network(cidr, strict=False)) if cidr else ""
