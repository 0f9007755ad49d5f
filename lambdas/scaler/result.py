"""The result of one service's turn: outcome, decision, writes, and faults with codes to search for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from gpu_fleet.scaling.decision import Decision


class ErrorCode(StrEnum):
    """Why something was not done."""

    BROKEN_PARAMETER = "BrokenParameter"
    """`bindings.ServiceParameter` cannot read a service parameter."""
    UNKNOWN_GROUP = "UnknownGroup"
    UNKNOWN_RULE = "UnknownRule"
    THROTTLED = "Throttled"
    ACCESS_DENIED = "AccessDenied"
    UNREACHABLE = "Unreachable"
    """No answer: timeout, connection, name."""
    AWS_ERROR = "AwsError"
    """AWS answered with another error."""
    LAUNCH_FAILED = "LaunchFailed"
    """Auto Scaling could not launch for another reason than capacity: a template, a permission, a key, a quota."""
    LAUNCH_SUSPENDED = "LaunchSuspended"
    """The group's process `Launch` is suspended: it launches nothing until somebody resumes it."""
    METRICS_UNAVAILABLE = "MetricsUnavailable"
    STATE_UNREADABLE = "StateUnreadable"
    """This version cannot read the state item, which counts as lost."""
    INVALID_DECISION = "InvalidDecision"
    """No calls can carry the decision out, so nothing was written."""
    OUT_OF_TIME = "OutOfTime"
    """The function ran out of time before this service's turn."""
    UNEXPECTED = "Unexpected"
    """A bug of the scaler itself."""


def error_code(error: Exception) -> str:
    """Return the code of AWS's error; empty if AWS did not answer."""
    return error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""


_THROTTLING_CODES = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestLimitExceeded",
        "ProvisionedThroughputExceededException",
        "RequestThrottled",
        "TooManyRequestsException",
        "SlowDown",
    }
)
_DENIAL_CODES = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that went wrong."""

    code: ErrorCode
    message: str
    during: str = ""
    """The API operation or the step that failed."""

    @classmethod
    def of(cls, error: Exception, during: str = "") -> Fault:
        """Return the fault of an exception."""
        if isinstance(error, ClientError):
            during = during or error.operation_name
            code = error_code(error)
            if code in _THROTTLING_CODES:
                return cls(ErrorCode.THROTTLED, str(error), during)
            if code in _DENIAL_CODES:
                return cls(ErrorCode.ACCESS_DENIED, str(error), during)
            return cls(ErrorCode.AWS_ERROR, str(error), during)
        if isinstance(error, BotoCoreError):
            return cls(ErrorCode.UNREACHABLE, str(error), during)
        return cls(ErrorCode.UNEXPECTED, f"{type(error).__name__}: {error}", during)


@dataclass(frozen=True, slots=True)
class Write:
    """A write that the decision called for."""

    operation: str
    resource: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    made: bool = True
    note: str = ""
    """Why it was not made, or was made in part."""


class Outcome(StrEnum):
    """How one service's turn ended."""

    APPLIED = "applied"
    """At least one write was made."""
    UNCHANGED = "unchanged"
    """Nothing differed from the decision."""
    SHADOW = "shadow"
    """Decided and published; nothing changed."""
    SUPERSEDED = "superseded"
    """Another run wrote the state first, so this one changed nothing."""
    FAILED = "failed"
    """No decision, or a write failed; the next run tries again."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one service's turn."""

    service: str
    outcome: Outcome
    decision: Decision | None = None
    writes: tuple[Write, ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether to raise an alarm.

        An unreadable state item is replaced in the same run. Groups that cannot launch show in the log and in the
        decision's reasons, and other pools carry the demand.
        """
        return any(fault.code not in _NO_ALARM for fault in self.faults)


_NO_ALARM = (ErrorCode.STATE_UNREADABLE, ErrorCode.LAUNCH_FAILED, ErrorCode.LAUNCH_SUSPENDED)
