"""What the program asks the provider: zones, account, region, policy documents, parameters, networks, rules."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from gpu_fleet.emulator.provider.registry import MotoAccount, UnknownResourceError, unwrap, whole

Answer = dict[str, Any]


def availability_zones(aws: MotoAccount, _: Mapping[str, Any]) -> Answer:
    """The region's zones."""
    zones = aws.client("ec2").describe_availability_zones()["AvailabilityZones"]
    return {
        "names": [z["ZoneName"] for z in zones],
        "zoneIds": [z["ZoneId"] for z in zones],
        "groupNames": [aws.region],
        "id": aws.region,
    }


def caller_identity(aws: MotoAccount, _: Mapping[str, Any]) -> Answer:
    """The account."""
    arn = f"arn:{aws.partition}:iam::{aws.account}:root"
    return {"accountId": aws.account, "arn": arn, "userId": aws.account, "id": aws.account}


def region(aws: MotoAccount, _: Mapping[str, Any]) -> Answer:
    """The region."""
    endpoint = f"ec2.{aws.region}.amazonaws.com"
    return {
        "name": aws.region,
        "region": aws.region,
        "id": aws.region,
        "description": aws.region,
        "endpoint": endpoint,
    }


def partition(aws: MotoAccount, _: Mapping[str, Any]) -> Answer:
    """The partition."""
    return {
        "partition": aws.partition,
        "dnsSuffix": "amazonaws.com",
        "id": aws.partition,
        "reverseDnsPrefix": "com.amazonaws",
    }


def policy_document(_: MotoAccount, args: Mapping[str, Any]) -> Answer:
    """A policy document put together."""
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
                who = out.setdefault("Principal", {})
                who.setdefault(principal["type"], []).extend(principal["identifiers"])
        for condition in statement.get("conditions") or []:
            tests = out.setdefault("Condition", {}).setdefault(condition["test"], {})
            tests.setdefault(condition["variable"], []).extend(condition["values"])
        statements.append(out)
    text = json.dumps({"Version": args.get("version") or "2012-10-17", "Statement": statements})
    return {"json": text, "minifiedJson": text, "id": hashlib.sha256(text.encode()).hexdigest()[:10]}


def parameter(aws: MotoAccount, args: Mapping[str, Any]) -> Answer:
    """An SSM parameter. A public one (/aws/service/...) that moto does not carry stands for a made-up AMI."""
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


def ami(_: MotoAccount, __: Mapping[str, Any]) -> Answer:
    """An AMI, made up."""
    identity = "ami-12c6146b"
    return {"id": identity, "imageId": identity, "rootDeviceName": "/dev/xvda", "architecture": "x86_64"}


def prefix_list(_: MotoAccount, args: Mapping[str, Any]) -> Answer:
    """AWS's own list of addresses of a service."""
    return {"id": "pl-63a5400a", "name": args.get("name") or "", "cidrBlocks": []}


def listener_rule(aws: MotoAccount, args: Mapping[str, Any]) -> Answer:
    """A listener rule as it stands now, by its ARN, or by its listener and priority. Raises AWS's own RuleNotFound."""
    elb = aws.client("elbv2")
    if args.get("arn"):
        found = elb.describe_rules(RuleArns=[args["arn"]])["Rules"]
    else:
        wanted = str(whole(args["priority"]))
        found = [r for r in elb.describe_rules(ListenerArn=args["listenerArn"])["Rules"] if r["Priority"] == wanted]
        if not found:
            raise LookupError(f"{args['listenerArn']}: no rule with priority {wanted}")
    rule = found[0]
    tags = elb.describe_tags(ResourceArns=[rule["RuleArn"]])["TagDescriptions"][0]["Tags"]
    return {
        "id": rule["RuleArn"],
        "arn": rule["RuleArn"],
        "listenerArn": rule["RuleArn"].replace(":listener-rule/", ":listener/").rsplit("/", 1)[0],
        "priority": int(rule["Priority"]),
        "region": aws.region,
        "tags": {tag["Key"]: tag["Value"] for tag in tags},
        "actions": [
            {"type": action["Type"], "order": action.get("Order", place), "forwards": _forwards(action)}
            for place, action in enumerate(rule["Actions"], 1)
        ],
    }


def _forwards(action: Mapping[str, Any]) -> list[Answer]:
    """The target groups of an action with their weights; one that is named alone has the weight 1."""
    if action["Type"] != "forward":
        return []
    config = action.get("ForwardConfig") or {}
    shares = config.get("TargetGroups") or [{"TargetGroupArn": action["TargetGroupArn"], "Weight": 1}]
    return [{"targetGroups": [{"arn": one["TargetGroupArn"], "weight": int(one["Weight"])} for one in shares]}]


_ANSWERS: dict[str, Callable[[MotoAccount, Mapping[str, Any]], Answer]] = {
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


def ask(aws: MotoAccount, token: str, args: Mapping[str, Any]) -> Answer:
    """Answer a call of the program. Raises UnknownResourceError for one that is not known here."""
    answer = _ANSWERS.get(token.rsplit(":", 1)[-1])
    if answer is None:
        raise UnknownResourceError(
            f"{token}: the embedded cloud cannot answer this; teach it in gpu_fleet/emulator/provider/invokes.py"
        )
    return answer(aws, unwrap(args))
