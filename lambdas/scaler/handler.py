"""The Lambda's entry point: environment, clients, clock, log and metrics."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from gpu_fleet.scaling.decide import decide
from lambdas.scaler import log, notices
from lambdas.scaler.clients import Clients
from lambdas.scaler.environment import Environment
from lambdas.scaler.instances import InstanceBook
from lambdas.scaler.notices import Notice
from lambdas.scaler.publish import publish, publish_run
from lambdas.scaler.result import Result
from lambdas.scaler.serve import Runtime, serve
from lambdas.scaler.store import DynamoStateStore

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from gpu_fleet.scaling.observation import Observation
    from gpu_fleet.scaling.state import State
    from lambdas.scaler.bindings import ServiceParameter


class StandardOutput(logging.Handler):
    """Writes to the current sys.stdout, as `print` does, so that a caller can redirect log and metrics."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        sys.stdout.write(f"{self.format(record)}\n")


logger = Logger(service="gpu-fleet-scaler", use_rfc3339=True, logger_handler=StandardOutput())


@cache
def scaler() -> Runtime:
    """Return the scaler of this execution environment. Raises EnvironmentVariableError."""
    environment = Environment.from_env(os.environ)
    clients = Clients.connect()
    return Runtime(
        environment, clients, DynamoStateStore(clients.dynamodb, environment.state_table), InstanceBook(), decide
    )


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    # In Lambda, make the clients in the init phase, which has a full CPU whatever the function's memory. Elsewhere
    # wait for the first call, so that importing this file has no effect.
    scaler()


def handle(event: Any, context: LambdaContext | None = None) -> dict[str, Any]:
    """Serve the services that the event concerns (`events.concerned`), or answer EC2's notice about an instance.

    The reply counts outcomes and names the faults of each service that failed. A failed service does not fail the
    invocation: the metrics `errors` and `failed_services` raise the alarms. Raises botocore's errors if the service
    parameters could not be read, and UnreadableGroupsError if the groups for a notice could not.
    """
    now = time.time()
    stack = scaler().environment.stack
    notice = notices.read(event)
    if notice is not None:
        return _answer(notice, now)

    def remaining_seconds() -> float:
        return context.get_remaining_time_in_millis() / 1000 if context is not None else float("inf")

    def report(
        result: Result, parameter: ServiceParameter | None, observation: Observation | None, state: State
    ) -> None:
        log.write(logger, result, parameter.service if parameter else None, observation, state, now)
        publish(result, observation, stack)

    results = serve(scaler(), event, now, remaining_seconds, report)
    publish_run(results, stack)
    return _reply(results)


def _answer(notice: Notice, now: float) -> dict[str, Any]:
    environment, clients = scaler().environment, scaler().clients
    answered = notices.answer(notice, clients, environment.services_path)
    if answered is None:
        return _reply(())
    log.write_notice(logger, answered, now)
    publish(answered.result, None, environment.stack)
    publish_run([answered.result], environment.stack)
    return _reply([answered.result])


def _reply(results: Sequence[Result]) -> dict[str, Any]:
    faults = {r.service: sorted({fault.code.value for fault in r.faults}) for r in results if r.failed}
    return {
        "services": len(results),
        **Counter(result.outcome.value for result in results),
        **({"faults": faults} if faults else {}),
    }
