"""The scaler's Lambda function, run in this process: its environment, its events, its log."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from gpu_fleet.emulator import EmbeddedCloud
from lambdas.scaler import log


@dataclass(frozen=True, slots=True)
class LoggedDecision:
    """The decision for one service, read from its line of the decision log."""

    at: float
    """Seconds since the epoch."""
    service: str
    outcome: str
    held: bool
    codes: tuple[str, ...]
    sentences: tuple[str, ...]
    """One for each code."""
    signals: Mapping[str, Any]
    targets: Mapping[str, Mapping[str, Any]]
    """By pool: desired, weight, take and so on."""
    writes: tuple[Mapping[str, Any], ...]
    faults: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Invocation:
    """One run of the handler."""

    at: float
    """Seconds since the epoch."""
    trigger: str
    """`schedule`, `alarm` or `notice`."""
    decisions: tuple[LoggedDecision, ...]
    error: str | None
    """The exception that the handler raised; None without one."""
    faults: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Error codes, by service that failed."""

    @property
    def failure(self) -> str | None:
        """What would raise an alarm: the run's error, or its services that failed; None without either."""
        return self.error or "; ".join(f"{name}: {', '.join(codes)}" for name, codes in self.faults.items()) or None


@dataclass(frozen=True, slots=True)
class LambdaContext:
    """The part of Lambda's context object that the handler and its libraries read."""

    function_name: str
    invoked_function_arn: str
    memory_limit_in_mb: int
    timeout_seconds: float
    function_version: str = "$LATEST"
    aws_request_id: str = "00000000-0000-4000-8000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        """Return the whole timeout: virtual time stands still during a run."""
        return round(1000 * self.timeout_seconds)


class ScalerFunction:
    """The stack's scaler in the environment that the stack gave it. Open it, then invoke it.

    Opening is a cold start: the clients and the function's memory between runs are new.
    """

    def __init__(self, cloud: EmbeddedCloud) -> None:
        """Read the function's settings. Raises KeyError for a stack without the output `scaler`."""
        self._cloud = cloud
        described = cloud.client("lambda").get_function_configuration(FunctionName=cloud.outputs["scaler"])
        self.arn = str(described["FunctionArn"])
        self._variables: dict[str, str] = described.get("Environment", {}).get("Variables", {})
        self._context = LambdaContext(
            described["FunctionName"], self.arn, int(described["MemorySize"]), float(described["Timeout"])
        )
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start cold."""
        from lambdas.scaler import handler

        with contextlib.ExitStack() as opening:
            opening.enter_context(_environment(self._variables))
            handler.scaler.cache_clear()
            opening.callback(handler.scaler.cache_clear)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the execution environment."""
        self._open.close()

    def invoke(self, event: Mapping[str, Any], trigger: str = "schedule") -> Invocation:
        """Run the handler once, now. An exception is part of the result, as it would be for Lambda."""
        from lambdas.scaler import handler

        log_lines = io.StringIO()
        error: str | None = None
        faults: dict[str, tuple[str, ...]] = {}
        with contextlib.redirect_stdout(log_lines):
            try:
                reply = handler.handle(dict(event), self._context)  # type: ignore[arg-type]  (it reads no other fields)
                faults = {name: tuple(codes) for name, codes in reply.get("faults", {}).items()}
            except Exception as raised:  # noqa: BLE001 Lambda catches whatever a handler raises
                error = f"{type(raised).__name__}: {raised}"
        return Invocation(self._cloud.now, trigger, tuple(_logged(log_lines.getvalue())), error, faults)


def _logged(text: str) -> Iterator[LoggedDecision]:
    for line in text.splitlines():
        parsed = json.loads(line)
        if parsed.get("message") != log.MESSAGE:
            continue  # a line of metrics
        yield LoggedDecision(
            at=parsed["at"],
            service=parsed["service_name"],
            outcome=parsed["outcome"],
            held=bool(parsed.get("held", False)),
            codes=tuple(parsed.get("codes", ())),
            sentences=tuple(parsed.get("sentences", ())),
            signals=parsed.get("signals", {}),
            targets=parsed.get("targets", {}),
            writes=tuple(parsed["writes"]),
            faults=tuple(parsed["faults"]),
        )


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
