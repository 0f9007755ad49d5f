"""Amazon Resource Names and their parts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arn:
    """The parts of `arn:partition:service:region:account:resource`.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html
    """

    partition: str
    service: str
    region: str
    account: str
    resource: str

    @classmethod
    def parse(cls, text: str) -> Arn:
        """Parse an ARN that the settings have accepted."""
        return cls(*text.split(":", 5)[1:])

    def foreign_problem(self, account: str | None) -> str:
        """Return what is wrong if another account owns the resource, else "". An account of None is unknown."""
        if account is not None and self.account != account:
            return f"is in account {self.account}, must be in {account}, the account of these credentials"
        return ""
