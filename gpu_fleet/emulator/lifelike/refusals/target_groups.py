"""Target groups: valid attributes."""

from __future__ import annotations

from typing import Any

from moto.elbv2 import models
from moto.elbv2.exceptions import ELBClientError

from gpu_fleet.emulator.lifelike.difference import Difference, Patches
from gpu_fleet.emulator.lifelike.refusals.listener_rules import not_sticky

DIFFERENCE = Difference(
    name="attributes of target groups",
    moto=(
        "refuses a deregistration delay of 3600 seconds; accepts any slow start, any algorithm, and "
        "sticky targets behind a rule that is not sticky"
    ),
    aws=(
        "the deregistration delay is 0 to 3600 seconds; slow start is 0 or 30 to 900, and not allowed with least "
        "outstanding requests or weighted random; anomaly mitigation needs weighted random; targets are sticky only "
        "where each rule that shares requests between their group and others is sticky too"
    ),
    source=(
        "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html "
        "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/sticky-sessions.html"
    ),
)

_DELAY = "deregistration_delay.timeout_seconds"
_SLOW_START = "slow_start.duration_seconds"
_ALGORITHM = "load_balancing.algorithm.type"
_ALGORITHMS = ("round_robin", "least_outstanding_requests", "weighted_random")
_MITIGATION = "load_balancing.algorithm.anomaly_mitigation"


def patch_moto(patches: Patches) -> None:
    """Check attributes before moto stores them."""
    patches.wrap(models.ELBv2Backend, "modify_target_group_attributes", modify_target_group_attributes)


def modify_target_group_attributes(moto: Any, backend: Any, target_group_arn: str, attributes: dict[str, str]) -> None:
    """ModifyTargetGroupAttributes with a valid slow start, and a delay of up to 3600 seconds."""
    group = backend.target_groups.get(target_group_arn)
    after = {**(group.attributes if group else {}), **attributes}
    slow_start_seconds = int(after.get(_SLOW_START) or 0)
    if slow_start_seconds and not 30 <= slow_start_seconds <= 900:
        raise ELBClientError(
            "ValidationError",
            f"'{_SLOW_START}' value '{slow_start_seconds}' must be between '30-900' inclusive, or '0' to disable",
        )
    if slow_start_seconds and after.get(_ALGORITHM) in ("least_outstanding_requests", "weighted_random"):
        raise ELBClientError(
            "InvalidConfigurationRequest",
            f"Slow start cannot be enabled with the routing algorithm '{after[_ALGORITHM]}'",
        )
    if after.get(_ALGORITHM, "round_robin") not in _ALGORITHMS:
        raise ELBClientError("ValidationError", f"'{_ALGORITHM}' must be one of {', '.join(_ALGORITHMS)}")
    if after.get(_MITIGATION) == "on" and after.get(_ALGORITHM) != "weighted_random":
        raise ELBClientError(
            "InvalidConfigurationRequest", f"'{_MITIGATION}' can be on only with the routing algorithm weighted_random"
        )
    if after.get("stickiness.enabled") == "true":
        _check_rules_are_sticky(backend, target_group_arn)
    # moto accepts 3599 seconds at most.
    longest = attributes.get(_DELAY) == "3600"
    moto(backend, target_group_arn, {**attributes, _DELAY: "3599"} if longest else attributes)
    if longest:
        backend.target_groups[target_group_arn].attributes[_DELAY] = "3600"


def _check_rules_are_sticky(backend: Any, target_group_arn: str) -> None:
    """Check the rules that share their requests between this target group and others.

    AWS's answer is quoted in https://github.com/kubernetes-sigs/aws-load-balancer-controller/issues/2734.
    """
    for balancer in backend.load_balancers.values():
        for listener in balancer.listeners.values():
            for rule in listener.rules.values():
                arns = not_sticky(rule.actions)
                if target_group_arn in arns and len(arns) > 1:
                    raise ELBClientError(
                        "InvalidConfigurationRequest",
                        f"This target group appears behind a rule with group stickiness disabled ({rule.arn}). "
                        "You must enable group stickiness before enabling target stickiness",
                    )
