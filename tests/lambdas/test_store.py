"""The state item."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from pydantic import TypeAdapter

from gpu_fleet.scaling import record
from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.state import State
from lambdas.scaler.store import FORM, DynamoStateStore, StoredState, VersionConflictError
from tests.lambdas.memory_store import MemoryStateStore

TABLE = "gpu-fleet-test-state"


@pytest.fixture(params=["dynamodb", "memory"])
def store(request, world):
    return DynamoStateStore(world.clients.dynamodb, TABLE) if request.param == "dynamodb" else MemoryStateStore()


def test_a_service_without_an_item_has_a_lost_state(store):
    assert store.read("chat") == StoredState(State(), 0)


def test_what_was_written_is_read(store):
    store.write("chat", State(at=5.0), 0)
    store.write("chat", State(at=6.0), 1)
    assert store.read("chat") == StoredState(State(at=6.0), 2)
    assert store.read("code") == StoredState(State(), 0)


def test_of_two_runs_that_read_the_same_version_one_may_write(store):
    store.write("chat", State(at=1.0), 0)
    version = store.read("chat").version
    store.write("chat", State(at=2.0), version)
    with pytest.raises(VersionConflictError, match="chat: version 1 is no longer the newest"):
        store.write("chat", State(at=3.0), version)
    assert store.read("chat").state == State(at=2.0)


def test_of_two_first_runs_one_may_write(store):
    store.write("chat", State(at=1.0), 0)
    with pytest.raises(VersionConflictError):
        store.write("chat", State(at=2.0), 0)


def test_a_run_that_missed_a_deletion_may_not_write(store, world):
    with pytest.raises(VersionConflictError):
        store.write("chat", State(at=1.0), 4)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"at": "soon"}'])
def test_an_item_that_holds_no_state_is_a_lost_state_that_the_next_write_replaces(world, text):
    store = DynamoStateStore(world.clients.dynamodb, TABLE)
    item = {"service": {"S": "chat"}, "version": {"N": "9"}, "form": {"N": str(FORM)}, "state": {"S": text}}
    world.clients.dynamodb.put_item(TableName=TABLE, Item=item)
    stored = store.read("chat")
    assert (stored.state, stored.version) == (State(), 9)
    assert "not a State" in stored.unreadable
    store.write("chat", State(at=1.0), stored.version)
    assert store.read("chat") == StoredState(State(at=1.0), 10)


FIELDS = {
    "": "at burst demand feedback forecast guard learning mix pools requests routing since training zero",
    "demand": "answered answered_at answers counted dispersed_at dispersed_seconds dispersion request_weight",
    "requests": "count tokens",
    "forecast": "hindsight highest pending season season_wanted series",
    "forecast.series": "at rps",
    "forecast.highest": "at rps",
    "forecast.pending": "due made_at rps",
    "forecast.hindsight": "absolute late queued said weight",
    "forecast.season": "days read_at weekend working",
    "feedback": "allowance measured_at",
    "burst": "last",
    "burst.last": "at rps",
    "guard": "loads_wanted_since patience patience_at required stepped_at taken_at",
    "guard.required": "at rps",
    "mix": "moved_at",
    "zero": "asleep idle_since",
    "routing": "by_response_time corrections healthy_since moving",
    "training": "idle_nodes",
    "learning": "reset",
    "pools": "correction leads marked_at marks short starting",
    "pools.marks": "errors spot until zone",
    "pools.short": "count since",
}
"""The fields of form 3, by the place of their object in the state."""


def fields(schema: dict[str, Any]) -> dict[str, set[str]]:
    """Return the names of the fields of each object in a JSON schema, by the object's place."""
    by_place: dict[str, set[str]] = {}

    def walk(part: dict[str, Any], place: str) -> None:
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rpartition("/")[2]]
        for inner in part.get("anyOf", ()):
            walk(inner, place)
        for key in ("items", "additionalProperties"):
            if isinstance(part.get(key), dict):
                walk(part[key], place)
        for name, inner in part.get("properties", {}).items():
            by_place.setdefault(place, set()).add(name)
            walk(inner, f"{place}.{name}".lstrip("."))

    walk(schema, "")
    return by_place


class TestForm:
    FLAT = '{"at": 1772445560.0, "since": 1772441960.0, "series": [{"at": 1772445540.0, "rps": 3.0}]}'
    """A state of form 1. Today's State would read it without an error, with an empty forecast and an empty window."""

    def put(self, world: Any, form: str | None, text: str = FLAT) -> None:
        item = {"service": {"S": "chat"}, "version": {"N": "9"}, "state": {"S": text}}
        attribute = {} if form is None else {"form": {"N": form}}
        world.clients.dynamodb.put_item(TableName=TABLE, Item={**item, **attribute})

    def test_the_item_has_the_form_it_was_written_in(self, world):
        DynamoStateStore(world.clients.dynamodb, TABLE).write("chat", State(at=1.0), 0)
        item = world.clients.dynamodb.get_item(TableName=TABLE, Key={"service": {"S": "chat"}})["Item"]
        assert item["form"] == {"N": "3"}
        assert item.keys() == {"service", "version", "form", "state", "writer"}

    def test_the_flat_state_would_pass_for_a_valid_one(self):
        """The reason for the form: nothing else tells the two apart."""
        assert record.load(State, self.FLAT) == State(at=1772445560.0, since=1772441960.0)

    @pytest.mark.parametrize(("form", "number"), [(None, 1), ("2", 2), ("4", 4)])
    def test_an_item_of_another_form_is_a_lost_state_that_the_next_write_replaces(self, world, form, number):
        store = DynamoStateStore(world.clients.dynamodb, TABLE)
        self.put(world, form)
        stored = store.read("chat")
        assert (stored.state, stored.version) == (State(), 9)
        assert stored.unreadable == (
            f"chat: the state item was written in form {number}, this version reads form {FORM}"
        )
        store.write("chat", State(at=1.0), stored.version)
        assert store.read("chat") == StoredState(State(at=1.0), 10)

    @pytest.mark.parametrize("form", [None, "2"])
    def test_the_first_run_after_an_update_holds_and_removes_nothing(self, world, form):
        """The real model on an idle fleet of six instances, far more than it needs, and an item of another form."""
        world.stand(pools={"l4": 6}, policy={"horizontal": {"scale_in_stabilization_seconds": 60}})
        self.put(world, form, json.dumps({**json.loads(self.FLAT), "at": world.now - 60, "since": world.now - 3600}))
        for second in range(0, 120, 10):
            for metric in ("requests_running", "requests_waiting", "finished_rps"):
                world.publish(metric, 0, world.now - world.now % 60 - second, AutoScalingGroupName="chat-l4")
        for minute in (1, 2):
            world.publish_requests("l4", world.now - world.now % 60 - 60 * minute, None, healthy=6)
        result = world.run(decide)["chat"]
        assert [fault.code.value for fault in result.faults] == ["StateUnreadable"]
        assert "guard.first_run" in result.decision.codes
        assert result.decision.held
        assert world.board.writes() == []
        assert world.desired() == {"l4": 6}
        world.now += 60
        result = world.run(decide)["chat"]
        assert result.faults == ()
        assert "guard.first_run" not in result.decision.codes

    def test_the_fields_of_the_form_keep_their_names_and_places(self):
        """A field that is gone from here needs a new form; a new one with a default does not."""
        current = fields(TypeAdapter(State).json_schema(mode="serialization"))
        missing = {
            f"{place}.{name}".lstrip(".")
            for place, names in FIELDS.items()
            for name in names.split()
            if name not in current.get(place, set())
        }
        assert missing == set(), f"raise store.FORM from {FORM} to {FORM + 1}, and write the new fields here"


def test_an_item_without_a_version_is_replaced(world):
    store = DynamoStateStore(world.clients.dynamodb, TABLE)
    world.clients.dynamodb.put_item(TableName=TABLE, Item={"service": {"S": "chat"}})
    store.write("chat", State(at=1.0), store.read("chat").version)
    assert store.read("chat") == StoredState(State(at=1.0), 1)


def test_a_write_that_finds_its_own_item_is_no_conflict(world):
    """botocore sends a write again if its answer was lost."""
    store = DynamoStateStore(world.clients.dynamodb, TABLE)
    sent = []

    def twice(arguments):
        sent.append(arguments)
        if len(sent) == 1:
            world.clients.dynamodb.put_item(**arguments)

    with world.board.answering("dynamodb.PutItem", twice):
        store.write("chat", State(at=1.0), 0)
    assert len(sent) == 2
    assert store.read("chat") == StoredState(State(at=1.0), 1)


def test_a_write_of_the_same_state_by_another_run_is_a_conflict(world):
    store = DynamoStateStore(world.clients.dynamodb, TABLE)
    store.write("chat", State(at=1.0), 0)
    with pytest.raises(VersionConflictError):
        store.write("chat", State(at=1.0), 0)


def test_other_errors_are_no_conflict(world):
    store = DynamoStateStore(world.clients.dynamodb, TABLE)
    with world.board.failing("dynamodb.PutItem", "ProvisionedThroughputExceededException"), pytest.raises(ClientError):
        store.write("chat", State(at=1.0), 0)
