"""What can go wrong, as named context managers for the tests of every room."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from unittest import mock

from botocore.exceptions import ReadTimeoutError
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, BaseResponse

from gpu_fleet.emulator.cloud_world import Launch, Shortage
from gpu_fleet.emulator.embedded import EmbeddedCloud
from gpu_fleet.emulator.lifelike.interruptions import interrupt, recommend
from gpu_fleet.emulator.lifelike.metric_store import Key


@dataclass(slots=True)
class CallFault:
    """A fault of an API call."""

    fired: int = 0
    """How many calls it hit."""


@contextlib.contextmanager
def api_call_will_fail(
    service: str, operation: str, code: str, times: int | None = 1, *, message: str = "injected", status: int = 400
) -> Iterator[CallFault]:
    """The next `times` calls (None: all) are answered with this error, as the service would say it.

    Names are boto3's and the API's: `api_call_will_fail("elbv2", "ModifyRule", "Throttling")`. botocore retries what is
    retryable, each try a call of its own. Raises AssertionError at the end when no call was hit: such a test proves
    nothing.
    """

    def fail(response: BaseResponse) -> Any:
        with warnings.catch_warnings(action="ignore"):  # moto warns of codes that the service's model does not name
            _, headers, body = response.serialized(ActionResult(_InjectedError(code, message)))
        headers["status"] = str(status)
        return status, headers, body

    with _calls(service, operation, times, fail) as fault:
        yield fault


@contextlib.contextmanager
def api_call_will_time_out(service: str, operation: str, times: int | None = 1) -> Iterator[CallFault]:
    """The next `times` calls (None: all) are never answered; botocore sees a read timeout. Raises as above."""

    def time_out(_: BaseResponse) -> Any:
        raise ReadTimeoutError(endpoint_url=f"https://{service}")

    with _calls(service, operation, times, time_out) as fault:
        yield fault


class _InjectedError(ServiceException):
    """Not in a module of moto's, by which moto would look for another service's form of the error."""


@contextlib.contextmanager
def _calls(
    service: str, operation: str, times: int | None, answer: Callable[[BaseResponse], Any]
) -> Iterator[CallFault]:
    fault = CallFault()
    original = BaseResponse.call_action

    def call_action(self: BaseResponse) -> Any:
        asked = self.boto3_service_name == service and self._get_action() == operation
        if asked and (times is None or fault.fired < times):
            fault.fired += 1
            return answer(self)
        return original(self)

    with mock.patch.object(BaseResponse, "call_action", call_action):
        yield fault
    if not fault.fired:
        raise AssertionError(f"{service} {operation} was never called while it was to fail")


@contextlib.contextmanager
def no_capacity(
    cloud: EmbeddedCloud,
    *,
    group: str | None = None,
    type: str | None = None,  # noqa: A002 the word of the API
    zone: str | None = None,
    spot: bool | None = None,
    since: float | None = None,
    until: float | None = None,
) -> Iterator[Shortage]:
    """EC2 has no such instances (what is not given covers all), from `since` to `until` or as long as this is open."""
    shortage = Shortage(
        type=type,
        group=group,
        zone=zone,
        spot=spot,
        since=-float("inf") if since is None else since,
        until=float("inf") if until is None else until,
    )
    cloud.world.shortages.append(shortage)
    try:
        yield shortage
    finally:
        cloud.world.shortages.remove(shortage)


@contextlib.contextmanager
def spot_interruption(cloud: EmbeddedCloud, instance_id: str, at: float | None = None) -> Iterator[None]:
    """A spot instance gets its notice at `at` (now where not given); called off when left before.

    Raises ValueError, now or from `advance`, for an instance that is not there then or is not spot.
    """
    life, bus = cloud.life.lifecycle, cloud.life.events
    if at is None:
        interrupt(life, bus, instance_id)
        yield
        return
    cancel = cloud.world.at(at, lambda: interrupt(life, bus, instance_id))
    try:
        yield
    finally:
        cancel()


def rebalance_recommendation(cloud: EmbeddedCloud, instance_id: str) -> None:
    """A spot instance is said to be at high risk now. Raises ValueError for one that is not there or is not spot."""
    recommend(cloud.life.lifecycle, cloud.life.events, instance_id)


@contextlib.contextmanager
def slow_boot(
    cloud: EmbeddedCloud,
    seconds: float | None,
    *,
    group: str | None = None,
    type: str | None = None,  # noqa: A002 the word of the API
) -> Iterator[None]:
    """Instances launched meanwhile take this long until their model answers; None: it never does."""
    world, before = cloud.world, cloud.world.boot_seconds

    def boot_seconds(launch: Launch) -> float | None:
        if group in (None, launch.group) and type in (None, launch.type):
            return seconds
        world.boot_seconds = before
        try:
            return world.boots_in(launch)
        finally:
            world.boot_seconds = boot_seconds

    world.boot_seconds = boot_seconds
    try:
        yield
    finally:
        world.boot_seconds = before


def failed_boot(
    cloud: EmbeddedCloud,
    *,
    group: str | None = None,
    type: str | None = None,  # noqa: A002 the word of the API
) -> contextlib.AbstractContextManager[None]:
    """Instances launched meanwhile never answer: their launching hook runs out."""
    return slow_boot(cloud, None, group=group, type=type)


@contextlib.contextmanager
def engine_down(cloud: EmbeddedCloud, instance_id: str) -> Iterator[None]:
    """An instance in service ceases to answer its health checks, and answers again afterwards.

    Raises ValueError for an instance that is in no group.
    """
    life = cloud.life.lifecycle
    member = life.members.get(instance_id)
    if member is None:
        raise ValueError(f"{instance_id}: is in no group")
    life.ceases_to_answer(member)
    try:
        yield
    finally:
        life.begins_to_answer(member)


@contextlib.contextmanager
def metrics_missing(
    cloud: EmbeddedCloud,
    namespace: str | None = None,
    name: str | None = None,
    dimensions: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Data of these metrics (what is not given covers all) that arrives meanwhile is lost."""
    wanted = set((dimensions or {}).items())

    def lost(key: Key) -> bool:
        return namespace in (None, key[0]) and name in (None, key[1]) and wanted <= set(key[2])

    cloud.metrics.lost.append(lost)
    try:
        yield
    finally:
        cloud.metrics.lost.remove(lost)
