"""Ray Serve's replica autoscaling.

Source: ray 2.60.0, ray/serve/autoscaling_policy.py (replica_queue_length_autoscaling_policy, _apply_scaling_factors,
_apply_delay_logic) and ray/serve/config.py (defaults): ongoing requests are averaged over 30 s; a decision to grow must
last 30 s, one to shrink 600 s; both factors are 1; a decision in the other direction, or for no change, restarts the
clock; from zero at once; to zero only from one.

If `ray` is installed, the decision comes from its own public policy function; otherwise from the same rule written
here. The delays are written here in both cases, since Ray's own read the machine's clock.

Ray decides every 0.1 s; here it decides every 10 s, the interval at which its replicas push new numbers. The look-back
is the newest reading, a minute's mean, since the observation has nothing shorter.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gpu_fleet.backtest.rivals.rival_pool import RivalPool, newest_not_ready_first
from gpu_fleet.backtest.rivals.rival_signals import ReadyHistory, concurrency, fresh
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.service import Service

UPSCALE_DELAY_SECONDS = 30.0
DOWNSCALE_DELAY_SECONDS = 600.0
MAX_ONGOING_REQUESTS = 5
TARGET_ONGOING_REQUESTS = 2
"""Ray's defaults: a replica takes at most 5 requests at a time, and its target is 2."""


@dataclass(frozen=True, slots=True)
class Ongoing:
    """The input of the policy."""

    requests: float
    """Mean of the look-back over all replicas, waiting requests included."""
    running: int
    target_replicas: int
    target_ongoing_requests: float
    min_replicas: int
    max_replicas: int


Policy = Callable[[Ongoing], float]
"""Returns the desired replicas before rounding, bounds and delays."""


def rule_from_source(ongoing: Ongoing) -> float:
    """Return `replica_queue_length_autoscaling_policy`, written from its source."""
    if ongoing.running == 0:
        return max(1, ongoing.target_replicas) if ongoing.requests > 0 else ongoing.target_replicas
    per_target = ongoing.requests / (ongoing.target_ongoing_requests * ongoing.running)
    return ongoing.running * per_target


def rays_own(ongoing: Ongoing) -> float:
    """Return the same from the installed `ray`. Raises ImportError without it."""
    # Imported here: it takes a second, and most machines do not have it.
    from ray.serve.autoscaling_policy import (  # pyright: ignore[reportMissingImports]
        replica_queue_length_autoscaling_policy,  # pyright: ignore[reportUnknownVariableType]
    )

    desired, _ = replica_queue_length_autoscaling_policy(context(ongoing))  # pyright: ignore[reportUnknownVariableType]
    return float(desired)  # pyright: ignore[reportUnknownArgumentType]


def context(ongoing: Ongoing) -> Any:
    """Return the policy's input as Ray's AutoscalingContext."""
    from ray.serve._private.common import DeploymentID  # pyright: ignore[reportMissingImports]
    from ray.serve.config import AutoscalingConfig, AutoscalingContext  # pyright: ignore[reportMissingImports]

    return AutoscalingContext(
        deployment_id=DeploymentID(name="model"),
        deployment_name="model",
        app_name=None,
        current_num_replicas=ongoing.running,
        target_num_replicas=ongoing.target_replicas,
        running_replicas=[],
        total_num_requests=ongoing.requests,
        total_queued_requests=None,
        aggregated_metrics=None,
        raw_metrics=None,
        capacity_adjusted_min_replicas=ongoing.min_replicas,
        capacity_adjusted_max_replicas=ongoing.max_replicas,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=None,
        config=AutoscalingConfig(
            min_replicas=ongoing.min_replicas,
            max_replicas=ongoing.max_replicas,
            target_ongoing_requests=ongoing.target_ongoing_requests,
        ),
    )


def installed_policy() -> Policy:
    """Return Ray's own policy if it is installed, else the rule from its source."""
    return rays_own if importlib.util.find_spec("ray") is not None else rule_from_source


class RayServe:
    """Scales the replicas to the ongoing requests, once the decision has lasted."""

    name = "ray-serve"
    every_seconds = 10.0

    def __init__(self, service: Service, pool: str, target: float, policy: Policy | None = None) -> None:
        if target <= 0:
            raise ValueError(f"target: must be above 0 (got {target})")
        self.group = RivalPool.of(service, pool, newest_not_ready_first, can_sleep=True)
        self.target = target
        self._policy = policy or installed_policy()
        self._ready_history = ReadyHistory()
        self._direction = 0
        self._since = 0.0

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """Return the replicas after this loop; without metrics nothing changes."""
        pool = self.group.observed(observation)
        self._ready_history.see(pool, now)
        reading = self._ready_history.total(pool, fresh(service, concurrency(service, pool), now))
        requests = None if reading is None else reading.value
        running = pool.ready_count
        rejected = fresh(service, observation.rejected_rps, now)
        if running == 0 and rejected is not None and rejected.value > 0:
            # Without a replica the requests queue in Ray's handles; here they show as rejected.
            requests = max(requests or 0.0, 1.0)
        desired = pool.desired
        if requests is not None:
            exact = self._policy(
                Ongoing(requests, running, pool.desired, self.target, self.group.at_least, self.group.at_most)
            )
            if running == 0:
                desired = math.ceil(exact)
            else:
                desired = self._after_delay(_rounded(exact, running), pool.desired, now)
        return self.group.targets(service, observation, desired, now)

    def _after_delay(self, desired: int, current: int, now: float) -> int:
        """Return the desired replicas once their direction has lasted, until then the current ones."""
        direction = (desired > current) - (desired < current)
        if direction != self._direction:
            self._direction, self._since = direction, now
        if direction == 0:
            return current
        if direction < 0 and current > 1:
            desired = max(1, desired)
        # A microsecond's tolerance, as in the source: 400.0 s may compare as 399.9999999999999.
        if now - self._since + 1e-6 < (UPSCALE_DELAY_SECONDS if direction > 0 else DOWNSCALE_DELAY_SECONDS):
            return current
        self._direction = 0
        return desired


def _rounded(desired: float, running: int) -> int:
    """Return `_apply_scaling_factors` with both factors at 1."""
    scaled = math.ceil(running + (desired - running))
    return scaled - 1 if math.ceil(desired) < running and scaled == running else scaled
