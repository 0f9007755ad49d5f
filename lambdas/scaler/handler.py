"""The edge of the Lambda: environment, clients, the clock, logs and metrics."""

from __future__ import annotations

import logging
import os
import sys
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from lambdas.scaler import log
from lambdas.scaler.clients import Clients
from lambdas.scaler.environment import Environment
from lambdas.scaler.instances import InstanceBook
from lambdas.scaler.publish import publish
from lambdas.scaler.result import Result
from lambdas.scaler.serve import Scaler, serve
from lambdas.scaler.store import DynamoStateStore
from scaling.decide import decide

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from lambdas.scaler.bindings import ServiceParameter
    from scaling.observation import Observation
    from scaling.state import State


class StandardOutput(logging.Handler):
    """Writes to whatever sys.stdout is at the time, as `print` does, so that a caller can redirect log and metrics."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        sys.stdout.write(f"{self.format(record)}\n")


logger = Logger(service="gpu-fleet-scaler", use_rfc3339=True, logger_handler=StandardOutput())


class ServicesFailedError(Exception):
    """Raised at the end of a run in which something failed, after every service had its turn, so that the function's
    Errors metric and its alarm see it.
    """


@cache
def scaler() -> Scaler:
    """The scaler of this execution environment. Raises EnvironmentVariableError."""
    environment = Environment.from_env(os.environ)
    clients = Clients.connect()
    return Scaler(
        environment, clients, DynamoStateStore(clients.dynamodb, environment.state_table), InstanceBook(), decide
    )


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    # Clients are made in the init phase, which has a full CPU whatever the function's memory; elsewhere not before
    # the first call, so that importing this file touches nothing.
    scaler()


def handle(event: Any, context: LambdaContext | None = None) -> dict[str, Any]:
    """Serve the services that the event concerns (`events.concerned`); the reply counts the outcomes.

    Raises ServicesFailedError after all had their turn, when any of them failed.
    """
    now = time.time()

    def remaining_seconds() -> float:
        return context.get_remaining_time_in_millis() / 1000 if context is not None else float("inf")

    def report(
        result: Result, parameter: ServiceParameter | None, observation: Observation | None, state: State
    ) -> None:
        log.write(logger, result, parameter.service if parameter else None, observation, state, now)
        publish(result, observation)

    results = serve(scaler(), event, now, remaining_seconds, report)
    failed = [result for result in results if result.failed]
    if failed:
        codes = sorted({f"{result.service}: {fault.code.value}" for result in failed for fault in result.faults})
        raise ServicesFailedError(f"{len(failed)} of {len(results)} services: {'; '.join(codes)}")
    outcomes: dict[str, int] = {}
    for result in results:
        outcomes[result.outcome.value] = outcomes.get(result.outcome.value, 0) + 1
    return {"services": len(results), **outcomes}
