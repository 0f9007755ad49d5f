"""Amazon Resource Names, taken apart."""

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
    def read(cls, text: str) -> Arn:
        """The parts of an ARN that the settings have accepted."""
        return cls(*text.split(":", 5)[1:])

    def foreign(self, account: str | None) -> str:
        """Why what it names is not in this account; empty where it is. An account of None is not known."""
        if account is not None and self.account != account:
            return f"is of account {self.account}, must be of {account}, whose credentials these are"
        return ""
