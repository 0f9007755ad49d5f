"""Checks, and running them side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from gpu_fleet.config.document import Document, Path, Problem
from gpu_fleet.operate.preflight.aws import ReadOnlyAws, UnansweredError
from gpu_fleet.operate.preflight.finding import Finding, not_known

AT_A_TIME = 8
"""Checks made at once: far fewer than an account's describes may burst
(https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html)."""


@dataclass(frozen=True, slots=True)
class Check:
    """One question about one thing."""

    name: str
    """What is asked: the same for all things of a kind."""
    subject: str
    """Of what."""
    path: Path
    """Key of the stack's file that decides it, as a path in `StackSettings`; empty: it is the account's matter."""
    look: Callable[[ReadOnlyAws], Finding]
    """Asks AWS, and says what it means. Raises UnansweredError."""


@dataclass(frozen=True, slots=True)
class Row:
    """A check and what it found."""

    check: str
    subject: str
    finding: Finding
    at: Problem | None
    """Place and key in the stack's file."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        at = self.at
        return {
            "check": self.check,
            "subject": self.subject,
            "status": self.finding.status.value,
            "text": self.finding.text,
            "missing_right": self.finding.missing_right or None,
            "key": at.key if at else None,
            "place": {"file": at.file, "line": at.line, "column": at.column} if at else None,
        }


def run(
    checks: Sequence[Check], aws: ReadOnlyAws, document: Document, done: Callable[[str], None] = lambda _: None
) -> list[Row]:
    """A row for each check, in their order; `done` is told the name of each that has ended.

    What AWS does not answer is a row `not known`, and keeps no other check from being made.
    """

    def look(check: Check) -> Row:
        try:
            finding = check.look(aws)
        except UnansweredError as error:
            finding = not_known(str(error), error.missing_right)
        done(check.name)
        return Row(check.name, check.subject, finding, _at(check, document))

    with ThreadPoolExecutor(AT_A_TIME) as threads:
        return list(threads.map(look, checks))


def _at(check: Check, document: Document) -> Problem | None:
    return document.problem(check.path, "") if check.path else None
