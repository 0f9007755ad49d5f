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
class Decided:
    """One service's turn, as its line of the decision log has it."""

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
    """By pool: desired, weight, take, ..."""
    writes: tuple[Mapping[str, Any], ...]
    faults: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Invocation:
    """One run of the handler."""

    at: float
    """Seconds since the epoch."""
    trigger: str
    """`schedule`, `alarm` or `notice`."""
    decided: tuple[Decided, ...]
    error: str | None
    """What the handler raised; None where the run could be made."""
    faults: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Codes of what went wrong, by service that failed."""

    @property
    def trouble(self) -> str | None:
        """What rings: the run as a whole, or its services that failed."""
        return self.error or "; ".join(f"{name}: {', '.join(codes)}" for name, codes in self.faults.items()) or None


@dataclass(frozen=True, slots=True)
class Context:
    """What of Lambda's context object the handler and its libraries read."""

    function_name: str
    invoked_function_arn: str
    memory_limit_in_mb: int
    timeout_seconds: float
    function_version: str = "$LATEST"
    aws_request_id: str = "00000000-0000-4000-8000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        """The whole of it: virtual time stands still during a run."""
        return round(1000 * self.timeout_seconds)


class ScalerFunction:
    """The stack's scaler with the environment that the stack gave it; open it, then invoke it.

    Opening it is a cold start: clients and what the function remembers between runs are new.
    """

    def __init__(self, cloud: EmbeddedCloud) -> None:
        """Raises KeyError for a stack without the output `scaler`."""
        self._cloud = cloud
        described = cloud.client("lambda").get_function_configuration(FunctionName=cloud.outputs["scaler"])
        self.arn = str(described["FunctionArn"])
        self._variables: dict[str, str] = described.get("Environment", {}).get("Variables", {})
        self._context = Context(
            described["FunctionName"], self.arn, int(described["MemorySize"]), float(described["Timeout"])
        )
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """A cold start."""
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
        """The execution environment is gone."""
        self._open.close()

    def invoke(self, event: Mapping[str, Any], trigger: str = "schedule") -> Invocation:
        """Run the handler once, now. What it raises or replies is part of the answer, as Lambda would count it."""
        from lambdas.scaler import handler

        written = io.StringIO()
        error: str | None = None
        faults: dict[str, tuple[str, ...]] = {}
        with contextlib.redirect_stdout(written):
            try:
                reply = handler.handle(dict(event), self._context)  # type: ignore[arg-type]  (all that it reads is there)
                faults = {name: tuple(codes) for name, codes in reply.get("faults", {}).items()}
            except Exception as raised:  # noqa: BLE001 Lambda catches whatever a handler raises
                error = f"{type(raised).__name__}: {raised}"
        return Invocation(self._cloud.now, trigger, tuple(_decided(written.getvalue())), error, faults)


def _decided(text: str) -> Iterator[Decided]:
    for line in text.splitlines():
        parsed = json.loads(line)
        if parsed.get("message") != log.MESSAGE:
            continue  # a line of metrics
        yield Decided(
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
