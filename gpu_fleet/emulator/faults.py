"""Faults to inject, as context managers for tests: failing calls, missing capacity, interruptions, dead engines."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

from botocore.exceptions import ReadTimeoutError
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, BaseResponse

from gpu_fleet.emulator.cloud_world import Launch, Shortage, look_up_boot_seconds
from gpu_fleet.emulator.embedded import EmbeddedCloud
from gpu_fleet.emulator.lifelike.interruptions import interrupt, recommend
from gpu_fleet.emulator.lifelike.metric_store import MetricKey
from gpu_fleet.scaling.boot import Boot

__all__ = [
    "CallFault",
    "Shortage",
    "api_call_will_fail",
    "api_call_will_time_out",
    "engine_down",
    "failed_boot",
    "metrics_missing",
    "no_capacity",
    "rebalance_recommendation",
    "slow_boot",
    "spot_interruption",
]


@dataclass(slots=True)
class CallFault:
    """A fault of an API call."""

    fired: int = 0
    """Number of calls that it hit."""


@contextlib.contextmanager
def api_call_will_fail(
    service: str, operation: str, code: str, times: int | None = 1, *, message: str = "injected", status: int = 400
) -> Iterator[CallFault]:
    """Answer the next `times` calls (None: all) with this error, in the service's own format.

    Names are boto3's and the API's: `api_call_will_fail("elbv2", "ModifyRule", "Throttling")`. botocore retries
    retryable errors, and each retry counts as a call. Raises AssertionError on exit if no call was hit: such a test
    proves nothing.
    """

    def fail(response: BaseResponse) -> Any:
        with warnings.catch_warnings(action="ignore"):  # moto warns of codes that the service's model does not name
            _, headers, body = response.serialized(ActionResult(_InjectedError(code, message)))
        headers["status"] = str(status)
        return status, headers, body

    with _answer_calls(service, operation, times, fail) as fault:
        yield fault


@contextlib.contextmanager
def api_call_will_time_out(service: str, operation: str, times: int | None = 1) -> Iterator[CallFault]:
    """Leave the next `times` calls (None: all) unanswered: botocore raises a read timeout.

    Raises AssertionError on exit if no call was hit.
    """

    def time_out(_: BaseResponse) -> Any:
        raise ReadTimeoutError(endpoint_url=f"https://{service}")

    with _answer_calls(service, operation, times, time_out) as fault:
        yield fault


class _InjectedError(ServiceException):
    """An error defined outside moto: by an error's module moto would choose another service's format."""


@contextlib.contextmanager
def _answer_calls(
    service: str, operation: str, times: int | None, answer: Callable[[BaseResponse], Any]
) -> Iterator[CallFault]:
    fault = CallFault()
    original = BaseResponse.call_action

    def call_action(self: BaseResponse) -> Any:
        matches = self.boto3_service_name == service and self._get_action() == operation
        if matches and (times is None or fault.fired < times):
            fault.fired += 1
            return answer(self)
        return original(self)

    with mock.patch.object(BaseResponse, "call_action", call_action):
        yield fault
    if not fault.fired:
        raise AssertionError(f"{service} {operation} was never called while the fault was active")


@contextlib.contextmanager
def no_capacity(cloud: EmbeddedCloud, shortage: Shortage = Shortage()) -> Iterator[None]:  # noqa: B008 frozen
    """Let EC2 lack the instances that the shortage covers; by default it has none at all."""
    cloud.world.shortages.append(shortage)
    try:
        yield
    finally:
        cloud.world.shortages.remove(shortage)


@contextlib.contextmanager
def spot_interruption(cloud: EmbeddedCloud, instance_id: str, at: float | None = None) -> Iterator[None]:
    """Give a spot instance its interruption notice at `at` (by default now); cancelled if this closes before.

    Raises ValueError, now or from `advance`, for an instance that does not exist then or is not spot.
    """
    lifecycle, bus = cloud.lifelike.lifecycle, cloud.lifelike.events
    if at is None:
        interrupt(lifecycle, bus, instance_id)
        yield
        return
    cancel = cloud.world.call_at(at, lambda: interrupt(lifecycle, bus, instance_id))
    try:
        yield
    finally:
        cancel()


def rebalance_recommendation(cloud: EmbeddedCloud, instance_id: str) -> None:
    """Send a rebalance recommendation now. Raises ValueError for an instance that does not exist or is not spot."""
    recommend(cloud.lifelike.lifecycle, cloud.lifelike.events, instance_id)


@contextlib.contextmanager
def slow_boot(cloud: EmbeddedCloud, seconds: float | None, *, group: str | None = None) -> Iterator[None]:
    """Let instances launched meanwhile (of one group) take `seconds` until their model answers; None: it never does."""
    world, before = cloud.world, cloud.world.boot_seconds

    def boot_seconds(launch: Launch) -> float | Boot | None:
        return seconds if group in (None, launch.group) else look_up_boot_seconds(before, launch)

    world.boot_seconds = boot_seconds
    try:
        yield
    finally:
        world.boot_seconds = before


def failed_boot(cloud: EmbeddedCloud) -> contextlib.AbstractContextManager[None]:
    """Let instances launched meanwhile never answer: their launching hook times out."""
    return slow_boot(cloud, None)


@contextlib.contextmanager
def engine_down(cloud: EmbeddedCloud, instance_id: str) -> Iterator[None]:
    """Let an instance in service fail its health checks; it answers again on exit.

    Raises ValueError for an instance that is in no group.
    """
    lifecycle = cloud.lifelike.lifecycle
    member = lifecycle.members.get(instance_id)
    if member is None:
        raise ValueError(f"{instance_id}: is in no group")
    lifecycle.stop_answering(member)
    try:
        yield
    finally:
        lifecycle.start_answering(member)


@contextlib.contextmanager
def metrics_missing(cloud: EmbeddedCloud, namespace: str, name: str) -> Iterator[None]:
    """Lose all data of this metric that arrives meanwhile."""

    def lost(key: MetricKey) -> bool:
        return key[:2] == (namespace, name)

    cloud.metrics.lost.append(lost)
    try:
        yield
    finally:
        cloud.metrics.lost.remove(lost)
