"""Provider functions that the program calls: zones, account, region, policy documents, parameters, rules."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from gpu_fleet.emulator.provider.registry import MotoAccount, UnknownResourceError, to_int, unwrap

Result = dict[str, Any]


def availability_zones(aws: MotoAccount, _: Mapping[str, Any]) -> Result:
    """The region's zones."""
    zones = aws.client("ec2").describe_availability_zones()["AvailabilityZones"]
    return {
        "names": [z["ZoneName"] for z in zones],
        "zoneIds": [z["ZoneId"] for z in zones],
        "groupNames": [aws.region],
        "id": aws.region,
    }


def caller_identity(aws: MotoAccount, _: Mapping[str, Any]) -> Result:
    """The account."""
    arn = f"arn:{aws.partition}:iam::{aws.account}:root"
    return {"accountId": aws.account, "arn": arn, "userId": aws.account, "id": aws.account}


def region(aws: MotoAccount, _: Mapping[str, Any]) -> Result:
    """The region."""
    endpoint = f"ec2.{aws.region}.amazonaws.com"
    return {
        "name": aws.region,
        "region": aws.region,
        "id": aws.region,
        "description": aws.region,
        "endpoint": endpoint,
    }


def partition(aws: MotoAccount, _: Mapping[str, Any]) -> Result:
    """The partition."""
    return {
        "partition": aws.partition,
        "dnsSuffix": "amazonaws.com",
        "id": aws.partition,
        "reverseDnsPrefix": "com.amazonaws",
    }


def policy_document(_: MotoAccount, args: Mapping[str, Any]) -> Result:
    """The JSON of a policy document."""
    statements = []
    for statement in args.get("statements") or []:
        out: dict[str, Any] = {"Effect": statement.get("effect") or "Allow"}
        for key, name in (
            ("sid", "Sid"),
            ("actions", "Action"),
            ("notActions", "NotAction"),
            ("resources", "Resource"),
            ("notResources", "NotResource"),
        ):
            if statement.get(key):
                out[name] = statement[key]
        for principal in statement.get("principals") or []:
            if principal["type"] == "*":
                out["Principal"] = "*"
            else:
                principals = out.setdefault("Principal", {})
                principals.setdefault(principal["type"], []).extend(principal["identifiers"])
        for condition in statement.get("conditions") or []:
            operands = out.setdefault("Condition", {}).setdefault(condition["test"], {})
            operands.setdefault(condition["variable"], []).extend(condition["values"])
        statements.append(out)
    text = json.dumps({"Version": args.get("version") or "2012-10-17", "Statement": statements})
    return {"json": text, "minifiedJson": text, "id": hashlib.sha256(text.encode()).hexdigest()[:10]}


def parameter(aws: MotoAccount, args: Mapping[str, Any]) -> Result:
    """An SSM parameter. A public one (/aws/service/...) that moto lacks has a made-up AMI as its value."""
    ssm = aws.client("ssm")
    try:
        value = ssm.get_parameter(Name=args["name"])["Parameter"]["Value"]
    except ssm.exceptions.ParameterNotFound:
        if not args["name"].startswith("/aws/service/"):
            raise
        value = "ami-12c6146b"
    arn = aws.arn("ssm", f"parameter/{args['name'].lstrip('/')}")
    return {
        "name": args["name"],
        "value": value,
        "insecureValue": value,
        "type": "String",
        "version": 1,
        "arn": arn,
        "id": args["name"],
    }


def ami(_: MotoAccount, __: Mapping[str, Any]) -> Result:
    """A made-up AMI."""
    identity = "ami-12c6146b"
    return {"id": identity, "imageId": identity, "rootDeviceName": "/dev/xvda", "architecture": "x86_64"}


def prefix_list(_: MotoAccount, args: Mapping[str, Any]) -> Result:
    """AWS's list of a service's addresses."""
    return {"id": "pl-63a5400a", "name": args.get("name") or "", "cidrBlocks": []}


def listener_rule(aws: MotoAccount, args: Mapping[str, Any]) -> Result:
    """A listener rule's present state, by its ARN, or by its listener and priority.

    Raises AWS's RuleNotFound for an unknown ARN, and LookupError for an unused priority.
    """
    elb = aws.client("elbv2")
    if args.get("arn"):
        rule = elb.describe_rules(RuleArns=[args["arn"]])["Rules"][0]
    else:
        priority = str(to_int(args["priority"]))
        rules = elb.describe_rules(ListenerArn=args["listenerArn"])["Rules"]
        rule = next((r for r in rules if r["Priority"] == priority), None)
        if rule is None:
            raise LookupError(f"{args['listenerArn']}: no rule with priority {priority}")
    tags = elb.describe_tags(ResourceArns=[rule["RuleArn"]])["TagDescriptions"][0]["Tags"]
    return {
        "id": rule["RuleArn"],
        "arn": rule["RuleArn"],
        "listenerArn": rule["RuleArn"].replace(":listener-rule/", ":listener/").rsplit("/", 1)[0],
        "priority": int(rule["Priority"]),
        "region": aws.region,
        "tags": {tag["Key"]: tag["Value"] for tag in tags},
        "actions": [
            {"type": action["Type"], "order": action.get("Order", position), "forwards": _forwards(action)}
            for position, action in enumerate(rule["Actions"], 1)
        ],
    }


def _forwards(action: Mapping[str, Any]) -> list[Result]:
    """Return the action's target groups with their weights (a single one has the weight 1), and its stickiness."""
    if action["Type"] != "forward":
        return []
    config = action.get("ForwardConfig") or {}
    shares = config.get("TargetGroups") or [{"TargetGroupArn": action["TargetGroupArn"], "Weight": 1}]
    sticky = config.get("TargetGroupStickinessConfig") or {}
    # moto stores what it got, a word or a boolean.
    enabled = str(sticky.get("Enabled", False)).lower() == "true"
    return [
        {
            "targetGroups": [{"arn": share["TargetGroupArn"], "weight": int(share["Weight"])} for share in shares],
            "stickinesses": [{"enabled": enabled, "duration": int(sticky.get("DurationSeconds") or 3600)}],
        }
    ]


_FUNCTIONS: dict[str, Callable[[MotoAccount, Mapping[str, Any]], Result]] = {
    "getAvailabilityZones": availability_zones,
    "getCallerIdentity": caller_identity,
    "getRegion": region,
    "getPartition": partition,
    "getPolicyDocument": policy_document,
    "getParameter": parameter,
    "getAmi": ami,
    "getPrefixList": prefix_list,
    "getManagedPrefixList": prefix_list,
    "getListenerRule": listener_rule,
}


def answer(aws: MotoAccount, token: str, args: Mapping[str, Any]) -> Result:
    """Return the result of a provider function. Raises UnknownResourceError for an unknown one."""
    function = _FUNCTIONS.get(token.rsplit(":", 1)[-1])
    if function is None:
        raise UnknownResourceError(
            f"{token}: the embedded cloud does not know this function; add it in gpu_fleet/emulator/provider/invokes.py"
        )
    return function(aws, unwrap(args))
