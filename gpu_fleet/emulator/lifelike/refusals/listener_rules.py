"""Listeners and rules: limits of actions and conditions, and the target groups that they may use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from moto.elbv2 import models
from moto.elbv2.exceptions import DuplicateListenerError, ELBClientError, PriorityInUseError, RuleNotFoundError

from gpu_fleet.emulator.lifelike.difference import Difference, Patches, arguments

DIFFERENCE = Difference(
    name="listeners and rules",
    moto=(
        "accepts any number of target groups with any weights, of other load balancers and other VPCs too, any "
        "pattern and header, any number of rules, sticky targets behind a rule that is not sticky, and a "
        "second listener on a port; refuses rules that swap places in one call"
    ),
    aws=(
        "a target group belongs to one load balancer, an action forwards to at most five of them, weights are 0 to "
        "999, and rule and targets are sticky together; a rule has at most five values and six wildcards in their "
        "alphabet, a load balancer at most 100 rules unless its quota was raised; rules may be reordered if the new "
        "order has no conflict"
    ),
    source=(
        "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html "
        "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html "
        "https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroupTuple.html "
        "https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_SetRulePriorities.html"
    ),
)

MAX_TARGET_GROUPS, MAX_WEIGHT, MAX_VALUES, MAX_WILDCARDS, MAX_RULES = 5, 999, 5, 6, 100
ALPHABETS = {
    "path-pattern": r"[A-Za-z0-9_\-.$/~\"'@:+&*?]{1,128}",
    # "You must include at least one "." character. You can include only alphabetical characters after the final ".""
    "host-header": r"(?=.{1,128}$)[A-Za-z0-9\-.*?]*\.[A-Za-z]+",
    "http-header": r".{1,128}",
}
"""https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_RuleCondition.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_HostHeaderConditionConfig.html"""

_CONFIGS = {
    "path-pattern": "PathPatternConfig",
    "host-header": "HostHeaderConfig",
    "http-header": "HttpHeaderConfig",
    "http-request-method": "HttpRequestMethodConfig",
    "query-string": "QueryStringConfig",
    "source-ip": "SourceIpConfig",
}


def patch_moto(patches: Patches) -> None:
    """Check requests before moto acts, and keep each target group's list of load balancers correct."""
    backend = models.ELBv2Backend
    patches.wrap(backend, "create_listener", create_listener)
    patches.wrap(backend, "modify_listener", modify_listener)
    patches.wrap(backend, "create_rule", create_rule)
    patches.wrap(backend, "modify_rule", modify_rule)
    patches.wrap(backend, "set_rule_priorities", set_rule_priorities)
    for name in ("delete_rule", "delete_listener", "delete_load_balancer"):
        patches.wrap(backend, name, delete)


def create_listener(moto: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """CreateListener on a free port, for HTTPS with a certificate."""
    request = arguments(moto, backend, *args, **kwargs)
    balancer = backend.load_balancers.get(request["load_balancer_arn"])
    if balancer is not None:
        if any(str(listener.port) == str(request["port"]) for listener in balancer.listeners.values()):
            raise DuplicateListenerError
        if request["protocol"] == "HTTPS" and not request["certificate"]:
            raise ELBClientError("ValidationError", "A certificate must be specified for HTTPS listeners")
        _check_actions(backend, balancer, request["actions"])
    return moto(backend, *args, **kwargs)


def modify_listener(moto: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """ModifyListener with valid actions."""
    request = arguments(moto, backend, *args, **kwargs)
    balancer = next((b for b in backend.load_balancers.values() if request["arn"] in b.listeners), None)
    if request["actions"] and balancer is not None:
        _check_actions(backend, balancer, request["actions"])
    answer = moto(backend, *args, **kwargs)
    _update_associations(backend)
    return answer


def create_rule(moto: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """CreateRule with valid conditions and actions."""
    request = arguments(moto, backend, *args, **kwargs)
    _check_conditions(request["conditions"])
    balancer = next((b for b in backend.load_balancers.values() if request["listener_arn"] in b.listeners), None)
    if balancer is not None:
        _check_actions(backend, balancer, request["actions"])
        # Each listener's default rule does not count.
        if sum(len(listener.rules) - 1 for listener in balancer.listeners.values()) >= MAX_RULES:
            raise ELBClientError("TooManyRules", "The maximum number of rules has been reached")
    return moto(backend, *args, **kwargs)


def modify_rule(
    moto: Any, backend: Any, rule_arn: str, conditions: list[dict[str, Any]], actions: list[dict[str, Any]]
) -> Any:
    """ModifyRule with valid conditions and actions."""
    balancer = next(
        (b for b in backend.load_balancers.values() for li in b.listeners.values() if rule_arn in li.rules), None
    )
    if conditions:
        _check_conditions(conditions)
    if actions and balancer is not None:
        _check_actions(backend, balancer, actions)
    answer = moto(backend, rule_arn, conditions, actions)
    _update_associations(backend)
    return answer


def set_rule_priorities(_moto: Any, backend: Any, rule_priorities: list[dict[str, Any]]) -> list[Any]:
    """SetRulePriorities: any new order without a conflict within a listener."""
    new = {rule["RuleArn"]: int(rule["Priority"]) for rule in rule_priorities}
    listeners = [listener for b in backend.load_balancers.values() for listener in b.listeners.values()]
    rules = {arn: rule for listener in listeners for arn, rule in listener.rules.items()}
    if not new.keys() <= rules.keys():
        raise RuleNotFoundError
    for listener in listeners:
        if new.keys() & listener.rules.keys():
            order = [str(new.get(arn, rule.priority)) for arn, rule in listener.rules.items()]
            if len(set(order)) < len(order):
                raise PriorityInUseError
    changed = [rules[arn] for arn in new]
    for rule in changed:
        rule.priority = new[rule.arn]
    return changed


def delete(moto: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """Delete a rule, listener or load balancer, which releases its target groups."""
    answer = moto(backend, *args, **kwargs)
    _update_associations(backend)
    return answer


def target_groups(actions: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Yield each target group that the actions forward to, with its weight if given."""
    for action in actions:
        data = getattr(action, "data", action)
        shares = (data.get("ForwardConfig") or {}).get("TargetGroups") or []
        yield from shares
        if data.get("TargetGroupArn") and not shares:
            yield {"TargetGroupArn": data["TargetGroupArn"]}


def not_sticky(actions: Iterable[Any]) -> set[str]:
    """Return the target groups that the actions forward to without keeping clients with them."""
    arns: set[str] = set()
    for action in actions:
        data = getattr(action, "data", action)
        config = (data.get("ForwardConfig") or {}).get("TargetGroupStickinessConfig") or {}
        if str(config.get("Enabled", False)).lower() != "true":
            arns |= {share["TargetGroupArn"] for share in target_groups([action])}
    return arns


def _used_by(balancer: Any) -> set[str]:
    """Return the ARNs of the target groups that the load balancer's listeners and rules forward to."""
    arns = set()
    for listener in balancer.listeners.values():
        for actions in (listener.default_actions, *(rule.actions for rule in listener.rules.values())):
            arns |= {share["TargetGroupArn"] for share in target_groups(actions)}
    return arns


def _update_associations(backend: Any) -> None:
    used = {balancer.arn: _used_by(balancer) for balancer in backend.load_balancers.values()}
    for group in backend.target_groups.values():
        group.load_balancer_arns = [arn for arn, groups in used.items() if group.arn in groups]


def _check_actions(backend: Any, balancer: Any, actions: Sequence[dict[str, Any]]) -> None:
    for action in actions:
        _check_shares(list(target_groups([action])))
    _check_stickiness(backend, actions)
    arns = {share["TargetGroupArn"] for share in target_groups(actions)}
    for other in backend.load_balancers.values():
        taken = arns & _used_by(other) if other is not balancer else set()
        if taken:
            raise ELBClientError(
                "TargetGroupAssociationLimit",
                "The following target groups cannot be associated with more than one load balancer: "
                + ", ".join(sorted(taken)),
            )
    for arn in arns:
        group = backend.target_groups.get(arn)
        if group is not None and group.vpc_id and group.vpc_id != balancer.vpc_id:
            raise ELBClientError(
                "InvalidConfigurationRequest",
                f"The following target groups are in a different VPC than load balancer '{balancer.arn}': {arn}",
            )


def _check_stickiness(backend: Any, actions: Sequence[dict[str, Any]]) -> None:
    """Check the target groups of an action with several of them."""
    for action in actions:
        arns = not_sticky([action])
        sticky = [
            arn
            for arn in sorted(arns)
            if arn in backend.target_groups
            and backend.target_groups[arn].attributes.get("stickiness.enabled") == "true"
        ]
        if len(arns) > 1 and sticky:
            raise ELBClientError(
                "InvalidConfigurationRequest",
                f"You must enable group stickiness on a rule if you enabled target stickiness on one of its target "
                f"groups: {', '.join(sticky)}",
            )


def _check_shares(shares: Sequence[dict[str, Any]]) -> None:
    arns = [share["TargetGroupArn"] for share in shares]
    if len(arns) > MAX_TARGET_GROUPS:
        # AWS documents the limit but not its error; this is the nearest of those that CreateRule lists.
        raise ELBClientError(
            "TooManyTargetGroups", f"The maximum number of target groups per action is {MAX_TARGET_GROUPS}"
        )
    if len(set(arns)) < len(arns):
        raise ELBClientError("ValidationError", "Target groups in a forward action must be unique")
    for share in shares:
        if not 0 <= int(share.get("Weight", 1)) <= MAX_WEIGHT:
            raise ELBClientError(
                "ValidationError", f"Weight '{share['Weight']}' must be between 0 and {MAX_WEIGHT} inclusive"
            )


def _check_conditions(conditions: Sequence[dict[str, Any]]) -> None:
    values = [(condition.get("Field"), value) for condition in conditions for value in _values(condition)]
    if len(values) > MAX_VALUES:
        raise ELBClientError("ValidationError", f"A rule can only have '{MAX_VALUES}' condition values")
    if sum(str(value).count("*") + str(value).count("?") for _, value in values) > MAX_WILDCARDS:
        raise ELBClientError("ValidationError", f"A rule can only have '{MAX_WILDCARDS}' condition wildcards")
    for condition in conditions:
        name = (condition.get("HttpHeaderConfig") or {}).get("HttpHeaderName", "x")
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}", name) or name.lower() == "host":
            raise ELBClientError("ValidationError", f"The http-header name '{name}' is not valid")
    for field, value in values:
        alphabet = ALPHABETS.get(str(field))
        if alphabet and not re.fullmatch(alphabet, value):
            raise ELBClientError(
                "ValidationError", f"The {field} value '{value}' contains a character that is not valid"
            )


def _values(condition: dict[str, Any]) -> list[Any]:
    config = condition.get(_CONFIGS.get(str(condition.get("Field")), "")) or {}
    return config.get("Values") or condition.get("Values") or []
