"""The state item: one per service, written only by the run that read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from botocore.exceptions import ClientError

from gpu_fleet.scaling import record
from gpu_fleet.scaling.state import State
from lambdas.scaler.result import error_code

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient


class VersionConflictError(Exception):
    """Another run has written the state since it was read."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A state and the version under which it stands."""

    state: State
    version: int = 0
    """0 where there is no item yet."""
    unreadable: str = ""
    """Why the item was not understood; its state then counts as lost, and the next write replaces it."""


class StateStore(Protocol):
    """Where states stand between runs."""

    def read(self, service: str) -> Stored:
        """The newest state; a lost one (`State()`) where there is none."""
        ...

    def write(self, service: str, state: State, version: int) -> None:
        """Write over `version`, as `version` + 1. Raises VersionConflictError if another version stands."""
        ...


class DynamoStateStore:
    """States in a DynamoDB table: service (S, key), version (N), state (S, JSON), writer (S, one for each write).

    Raises botocore's errors too.
    """

    def __init__(self, dynamodb: DynamoDBClient, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def read(self, service: str) -> Stored:
        """As `StateStore.read`; consistent, so that a run sees what the one before wrote."""
        answer = self._dynamodb.get_item(TableName=self._table, Key={"service": {"S": service}}, ConsistentRead=True)
        item = answer.get("Item")
        if item is None:
            return Stored(State())
        version = int(item.get("version", {}).get("N", "0"))
        try:
            return Stored(record.load(State, item.get("state", {}).get("S", "")), version)
        except ValueError as error:
            return Stored(State(), version, unreadable=str(error))

    def write(self, service: str, state: State, version: int) -> None:
        """As `StateStore.write`."""
        item = {
            "service": {"S": service},
            "version": {"N": str(version + 1)},
            "state": {"S": record.dump(state)},
            "writer": {"S": uuid4().hex},
        }
        # An item without a version was written by hand: replaced like a lost one.
        condition, values = (
            ("#v = :read", {":read": {"N": str(version)}}) if version else ("attribute_not_exists(#v)", {})
        )
        try:
            self._dynamodb.put_item(
                TableName=self._table,
                Item=item,  # type: ignore[arg-type]
                ConditionExpression=condition,
                ExpressionAttributeNames={"#v": "version"},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **({"ExpressionAttributeValues": values} if values else {}),  # type: ignore[arg-type]
            )
        except ClientError as error:
            if error_code(error) != "ConditionalCheckFailedException":
                raise
            # A write whose answer was lost is sent again by botocore and meets itself, writer and all.
            if error.response.get("Item") != item:
                raise VersionConflictError(f"{service}: version {version} is no longer the newest") from error


class MemoryStateStore:
    """States in this process, for the desk and for tests; what it keeps has been through JSON, as in DynamoDB."""

    def __init__(self) -> None:
        self._items: dict[str, tuple[int, str]] = {}

    def read(self, service: str) -> Stored:
        """As `StateStore.read`."""
        version, text = self._items.get(service, (0, ""))
        return Stored(record.load(State, text), version) if version else Stored(State())

    def write(self, service: str, state: State, version: int) -> None:
        """As `StateStore.write`."""
        if self._items.get(service, (0, ""))[0] != version:
            raise VersionConflictError(f"{service}: version {version} is no longer the newest")
        self._items[service] = (version + 1, record.dump(state))
