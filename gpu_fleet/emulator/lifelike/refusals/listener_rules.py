"""Listener rules and default actions: what they may hold, and which target groups they may send to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from moto.elbv2 import models
from moto.elbv2.exceptions import DuplicateListenerError, ELBClientError, PriorityInUseError, RuleNotFoundError

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="listeners and rules",
    moto=(
        "takes any number of target groups with any weights, of other load balancers and other VPCs too, any pattern, "
        "and a second listener on a port; refuses rules that change places in one call"
    ),
    aws=(
        "a target group belongs to one load balancer, an action sends to five of them at most, weights are 0 to 999, "
        "a rule has five values and six wildcards in their alphabet; rules may be reordered where the new order has no "
        "conflict"
    ),
    source=(
        "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html "
        "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html "
        "https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroupTuple.html "
        "https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_SetRulePriorities.html"
    ),
)

MOST_TARGET_GROUPS, MOST_WEIGHT, MOST_VALUES, MOST_WILDCARDS = 5, 999, 5, 6
ALPHABETS = {
    "path-pattern": r"[A-Za-z0-9_\-.$/~\"'@:+&*?]{1,128}",
    # "You must include at least one "." character. You can include only alphabetical characters after the final ".""
    "host-header": r"(?=.{1,128}$)[A-Za-z0-9\-.*?]*\.[A-Za-z]+",
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


def target_groups(actions: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Each target group that the actions send to, with its weight where one is given."""
    for action in actions:
        data = getattr(action, "data", action)
        shares = (data.get("ForwardConfig") or {}).get("TargetGroups") or []
        yield from shares
        if data.get("TargetGroupArn") and not shares:
            yield {"TargetGroupArn": data["TargetGroupArn"]}


def mend(patches: Patches) -> None:
    """Check before moto acts, and keep the list of a target group's load balancers true."""
    backend = models.ELBv2Backend

    def create_listener(
        self: Any, load_balancer_arn: str, protocol: str, port: str, ssl_policy: str, certificate: str | None,
        actions: list[dict[str, Any]], *more: Any, **named: Any,
    ) -> Any:  # fmt: skip
        balancer = self.load_balancers.get(load_balancer_arn)
        if balancer is not None:
            if any(str(listener.port) == str(port) for listener in balancer.listeners.values()):
                raise DuplicateListenerError
            if protocol == "HTTPS" and not certificate:
                raise ELBClientError("ValidationError", "A certificate must be specified for HTTPS listeners")
            _check_actions(self, balancer, actions)
        return moto_listener(self, load_balancer_arn, protocol, port, ssl_policy, certificate, actions, *more, **named)

    def modify_listener(self: Any, arn: str, *given: Any, **named: Any) -> Any:
        actions = named.get("actions", given[4] if len(given) > 4 else None)
        balancer = next((b for b in self.load_balancers.values() if arn in b.listeners), None)
        if actions and balancer is not None:
            _check_actions(self, balancer, actions)
        answer = moto_modify_listener(self, arn, *given, **named)
        _associate(self)
        return answer

    def create_rule(
        self: Any, listener_arn: str, conditions: list[dict[str, Any]], priority: int, actions: list[dict[str, Any]],
        tags: Any = None,
    ) -> Any:  # fmt: skip
        balancer = next((b for b in self.load_balancers.values() if listener_arn in b.listeners), None)
        _check_conditions(conditions)
        if balancer is not None:
            _check_actions(self, balancer, actions)
        return moto_rule(self, listener_arn, conditions, priority, actions, tags)

    def modify_rule(self: Any, rule_arn: str, conditions: list[dict[str, Any]], actions: list[dict[str, Any]]) -> Any:
        balancer = next(
            (b for b in self.load_balancers.values() for li in b.listeners.values() if rule_arn in li.rules), None
        )
        if conditions:
            _check_conditions(conditions)
        if actions and balancer is not None:
            _check_actions(self, balancer, actions)
        answer = moto_modify(self, rule_arn, conditions, actions)
        _associate(self)
        return answer

    def set_rule_priorities(self: Any, rule_priorities: list[dict[str, Any]]) -> list[Any]:
        wanted = {one["RuleArn"]: int(one["Priority"]) for one in rule_priorities}
        listeners = [listener for b in self.load_balancers.values() for listener in b.listeners.values()]
        known = {arn: (listener, rule) for listener in listeners for arn, rule in listener.rules.items()}
        if not wanted.keys() <= known.keys():
            raise RuleNotFoundError
        for listener in {id(li): li for li, _ in (known[arn] for arn in wanted)}.values():
            order = [str(wanted.get(arn, rule.priority)) for arn, rule in listener.rules.items()]
            if len(set(order)) < len(order):
                raise PriorityInUseError
        changed = [known[arn][1] for arn in wanted]
        for rule in changed:
            rule.priority = wanted[rule.arn]
        return changed

    def freeing(operation: Any) -> Any:
        def done(self: Any, *given: Any, **named: Any) -> Any:
            answer = operation(self, *given, **named)
            _associate(self)
            return answer

        return done

    moto_listener = patches.put(backend, "create_listener", create_listener)
    moto_modify_listener = patches.put(backend, "modify_listener", modify_listener)
    moto_rule = patches.put(backend, "create_rule", create_rule)
    moto_modify = patches.put(backend, "modify_rule", modify_rule)
    patches.put(backend, "set_rule_priorities", set_rule_priorities)
    for name in ("delete_rule", "delete_listener", "delete_load_balancer"):
        patches.put(backend, name, freeing(getattr(backend, name)))


def _used_by(balancer: Any) -> set[str]:
    """ARNs of the target groups that the load balancer's listeners and rules send to."""
    found = set()
    for listener in balancer.listeners.values():
        for actions in (listener.default_actions, *(rule.actions for rule in listener.rules.values())):
            found |= {share["TargetGroupArn"] for share in target_groups(actions)}
    return found


def _associate(backend: Any) -> None:
    used = {balancer.arn: _used_by(balancer) for balancer in backend.load_balancers.values()}
    for group in backend.target_groups.values():
        group.load_balancer_arns = [arn for arn, groups in used.items() if group.arn in groups]


def _check_actions(backend: Any, balancer: Any, actions: Sequence[dict[str, Any]]) -> None:
    for action in actions:
        shares = list(target_groups([action]))
        arns = [share["TargetGroupArn"] for share in shares]
        if len(arns) > MOST_TARGET_GROUPS:
            # AWS's page names the limit; which error tells of it is the nearest of those that CreateRule lists.
            raise ELBClientError(
                "TooManyTargetGroups", f"The maximum number of target groups per action is {MOST_TARGET_GROUPS}"
            )
        if len(set(arns)) < len(arns):
            raise ELBClientError("ValidationError", "Target groups in a forward action must be unique")
        for share in shares:
            if not 0 <= int(share.get("Weight", 1)) <= MOST_WEIGHT:
                raise ELBClientError(
                    "ValidationError",
                    f"Weight '{share['Weight']}' must be between 0 and {MOST_WEIGHT} inclusive",
                )
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


def _check_conditions(conditions: Sequence[dict[str, Any]]) -> None:
    values = [(one.get("Field"), value) for one in conditions for value in _values(one)]
    if len(values) > MOST_VALUES:
        raise ELBClientError("ValidationError", f"A rule can only have '{MOST_VALUES}' condition values")
    if sum(str(value).count("*") + str(value).count("?") for _, value in values) > MOST_WILDCARDS:
        raise ELBClientError("ValidationError", f"A rule can only have '{MOST_WILDCARDS}' condition wildcards")
    for field, value in values:
        alphabet = ALPHABETS.get(str(field))
        if alphabet and not re.fullmatch(alphabet, value):
            raise ELBClientError(
                "ValidationError", f"The {field} value '{value}' contains a character that is not valid"
            )


def _values(condition: dict[str, Any]) -> list[Any]:
    config = condition.get(_CONFIGS.get(str(condition.get("Field")), "")) or {}
    return config.get("Values") or condition.get("Values") or []
