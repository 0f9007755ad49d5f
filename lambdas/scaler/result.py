"""What happened, beside what was decided: faults with codes that alarms and searches can match, and the writes made."""

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
    """A service parameter is not what `bindings.ServiceParameter` reads."""
    UNKNOWN_GROUP = "UnknownGroup"
    UNKNOWN_RULE = "UnknownRule"
    THROTTLED = "Throttled"
    ACCESS_DENIED = "AccessDenied"
    UNREACHABLE = "Unreachable"
    """No answer: timeout, connection, name."""
    AWS_ERROR = "AwsError"
    """AWS answered with any other error."""
    LAUNCH_FAILED = "LaunchFailed"
    """Auto Scaling could not launch for another reason than capacity: a template, a right, a key."""
    METRICS_UNAVAILABLE = "MetricsUnavailable"
    STATE_UNREADABLE = "StateUnreadable"
    """The state item is not one of this version's: counts as lost."""
    INVALID_DECISION = "InvalidDecision"
    """The decision breaks a rule that AWS would not have checked, so nothing was written."""
    OUT_OF_TIME = "OutOfTime"
    """The function's time was up before this service's turn."""
    UNEXPECTED = "Unexpected"
    """A fault of the scaler itself."""


def error_code(error: Exception) -> str:
    """The code with which AWS answered; empty where it did not answer."""
    return error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""


_THROTTLES = frozenset(
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
_DENIALS = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that went wrong."""

    code: ErrorCode
    message: str
    during: str = ""
    """Operation or step."""

    @classmethod
    def of(cls, error: Exception, during: str = "") -> Fault:
        """The fault that an exception stands for."""
        if isinstance(error, ClientError):
            during = during or error.operation_name
            code = error_code(error)
            if code in _THROTTLES:
                return cls(ErrorCode.THROTTLED, str(error), during)
            if code in _DENIALS:
                return cls(ErrorCode.ACCESS_DENIED, str(error), during)
            return cls(ErrorCode.AWS_ERROR, str(error), during)
        if isinstance(error, BotoCoreError):
            return cls(ErrorCode.UNREACHABLE, str(error), during)
        return cls(ErrorCode.UNEXPECTED, f"{type(error).__name__}: {error}", during)


@dataclass(frozen=True, slots=True)
class Write:
    """One write that the decision called for."""

    operation: str
    resource: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    made: bool = True
    note: str = ""
    """Why it was not made, or not in full."""


class Outcome(StrEnum):
    """How one service's turn ended."""

    APPLIED = "applied"
    """Something was written."""
    UNCHANGED = "unchanged"
    """All stood as decided."""
    SHADOW = "shadow"
    """Decided and published; nothing touched."""
    SUPERSEDED = "superseded"
    """Another run wrote the state first: this one changed nothing."""
    FAILED = "failed"
    """Not decided, or not all of it could be written; the next run mends it."""


@dataclass(frozen=True, slots=True)
class Result:
    """One service's turn."""

    service: str
    outcome: Outcome
    decision: Decision | None = None
    writes: tuple[Write, ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether somebody should look at it now: an old state item mends itself, and launches that fail are shown
        in the log and the metrics for as long as they stand in the group's activities, an hour.
        """
        return any(fault.code not in (ErrorCode.STATE_UNREADABLE, ErrorCode.LAUNCH_FAILED) for fault in self.faults)
