"""A check, and how checks run in parallel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from gpu_fleet.config.document import Document, Path, Problem
from gpu_fleet.operate.preflight.aws import ReadOnlyAws, UnansweredError
from gpu_fleet.operate.preflight.finding import Finding, not_known

PARALLEL_CHECKS = 8
"""Number of checks at a time: far below the burst limit of an account's Describe calls
(https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html)."""


@dataclass(frozen=True, slots=True)
class Check:
    """One question about one thing."""

    name: str
    """The same for all things of one sort."""
    subject: str
    """The thing that is checked."""
    path: Path
    """Key of the stack's file that decides it, as a path in `StackSettings`; empty if the account decides it."""
    examine: Callable[[ReadOnlyAws], Finding]
    """Asks AWS and judges the answer. Raises UnansweredError."""


@dataclass(frozen=True, slots=True)
class Row:
    """A check and its finding."""

    check: str
    subject: str
    finding: Finding
    at: Problem | None
    """Place and key in the stack's file; None if the account decides it."""

    def as_json(self) -> dict[str, Any]:
        """Return the row as plain values."""
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
    """Return a row for each check, in their order; `done` gets the name of each check that ends.

    A check that AWS does not answer becomes a row `not known` and does not stop the others.
    """

    def run_one(check: Check) -> Row:
        try:
            finding = check.examine(aws)
        except UnansweredError as error:
            finding = not_known(str(error), error.missing_right)
        done(check.name)
        return Row(check.name, check.subject, finding, _at(check, document))

    with ThreadPoolExecutor(PARALLEL_CHECKS) as threads:
        return list(threads.map(run_one, checks))


def _at(check: Check, document: Document) -> Problem | None:
    return document.problem(check.path, "") if check.path else None
