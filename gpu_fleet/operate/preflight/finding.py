"""The result of a check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """Whether `pulumi up` would succeed here."""

    OK = "ok"
    WARNING = "warning"
    """It would, but the stack will not work well."""
    WRONG = "wrong"
    NOT_KNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Finding:
    """A status and its reason."""

    status: Status
    text: str
    missing_right: str = ""
    """IAM action that the caller lacks, like `acm:DescribeCertificate`; empty if the reason is another."""


def ok(text: str) -> Finding:
    """AWS has what the stack needs."""
    return Finding(Status.OK, text)


def warning(text: str) -> Finding:
    """The stack will work, but not well."""
    return Finding(Status.WARNING, text)


def wrong(text: str) -> Finding:
    """AWS would refuse, or the stack would not work."""
    return Finding(Status.WRONG, text)


def not_known(text: str, missing_right: str = "") -> Finding:
    """AWS did not say."""
    return Finding(Status.NOT_KNOWN, text, missing_right)
