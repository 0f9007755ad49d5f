"""The state item: one per service, written only by the run that read its newest version."""

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

FORM = 3
"""The form of the items that this version writes, and the only form that it reads.

Raise it when a field of `gpu_fleet.scaling.state.State` changes its name, place, unit or meaning. Reading ignores
unknown keys and fills missing ones with defaults, so an item of another form would pass for a valid state with empty
windows, and instances could go at once. A new field with a default needs no new form.

Form 1, items without the attribute: all fields in one flat object. Form 2: one memory per step of the model.
"""


class VersionConflictError(Exception):
    """Another run has written the state since it was read."""


@dataclass(frozen=True, slots=True)
class StoredState:
    """A state and its version in the store."""

    state: State
    version: int = 0
    """0 if the store has no item."""
    unreadable: str = ""
    """Why the item could not be read. Its state then counts as lost, and the next write replaces the item."""


class StateStore(Protocol):
    """Keeps states between runs."""

    def read(self, service: str) -> StoredState:
        """Return the newest state, or `State()`, a lost one, without an item that this version can read."""
        ...

    def write(self, service: str, state: State, version: int) -> None:
        """Replace `version` with `version` + 1. Raises VersionConflictError if `version` is not the newest."""
        ...


class DynamoStateStore:
    """States in a DynamoDB table.

    Attributes of an item: service (S, the key), version (N), form (N), state (S, JSON), writer (S, unique to a write).
    Both methods also raise botocore's errors.
    """

    def __init__(self, dynamodb: DynamoDBClient, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def read(self, service: str) -> StoredState:
        """As `StateStore.read`. The read is consistent, so a run sees what the run before it wrote."""
        answer = self._dynamodb.get_item(TableName=self._table, Key={"service": {"S": service}}, ConsistentRead=True)
        item = answer.get("Item")
        if item is None:
            return StoredState(State())
        version = int(item.get("version", {}).get("N", "0"))
        form = item.get("form", {}).get("N", "1")
        if form != str(FORM):
            why = f"{service}: the state item was written in form {form}, this version reads form {FORM}"
            return StoredState(State(), version, unreadable=why)
        try:
            return StoredState(record.load(State, item.get("state", {}).get("S", "")), version)
        except ValueError as error:
            return StoredState(State(), version, unreadable=str(error))

    def write(self, service: str, state: State, version: int) -> None:
        """As `StateStore.write`."""
        item = {
            "service": {"S": service},
            "version": {"N": str(version + 1)},
            "form": {"N": str(FORM)},
            "state": {"S": record.dump(state)},
            "writer": {"S": uuid4().hex},
        }
        # Somebody wrote an item without a version by hand: it is replaced like a lost one.
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
            # botocore sends a write again if its answer was lost. The second one then finds its own item, writer
            # included.
            if error.response.get("Item") != item:
                raise VersionConflictError(f"{service}: version {version} is no longer the newest") from error
