"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """Whether `pulumi up` would get past this."""

    OK = "ok"
    WRONG = "wrong"
    NOT_KNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Finding:
    """The status, and why."""

    status: Status
    text: str
    missing_right: str = ""
    """IAM action that the caller may not do, like `acm:DescribeCertificate`; empty: it is not that."""


def ok(text: str) -> Finding:
    """AWS has what the stack needs."""
    return Finding(Status.OK, text)


def wrong(text: str) -> Finding:
    """AWS would refuse, or what is made would not work."""
    return Finding(Status.WRONG, text)


def not_known(text: str, missing_right: str = "") -> Finding:
    """AWS did not say."""
    return Finding(Status.NOT_KNOWN, text, missing_right)
