"""The state item."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from gpu_fleet.scaling.state import State
from lambdas.scaler.store import DynamoStateStore, MemoryStateStore, Stored, VersionConflictError

TABLE = "gpu-fleet-test-state"


@pytest.fixture(params=["dynamodb", "memory"])
def store(request, world):
    return DynamoStateStore(world.clients.dynamodb, TABLE) if request.param == "dynamodb" else MemoryStateStore()


def test_a_service_without_an_item_has_a_lost_state(store):
    assert store.read("chat") == Stored(State(), 0)


def test_what_was_written_is_read(store):
    store.write("chat", State(at=5.0), 0)
    store.write("chat", State(at=6.0), 1)
    assert store.read("chat") == Stored(State(at=6.0), 2)
    assert store.read("code") == Stored(State(), 0)


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


def test_a_run_that_slept_through_a_deletion_may_not_write(store, world):
    with pytest.raises(VersionConflictError):
        store.write("chat", State(at=1.0), 4)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"at": "soon"}'])
def test_an_item_of_another_time_is_a_lost_state_that_the_next_write_replaces(world, text):
    store = DynamoStateStore(world.clients.dynamodb, TABLE)
    item = {"service": {"S": "chat"}, "version": {"N": "9"}, "state": {"S": text}}
    world.clients.dynamodb.put_item(TableName=TABLE, Item=item)
    stored = store.read("chat")
    assert (stored.state, stored.version) == (State(), 9)
    assert stored.unreadable
    store.write("chat", State(at=1.0), stored.version)
    assert store.read("chat") == Stored(State(at=1.0), 10)


def test_an_item_without_a_version_is_replaced(world):
    store = DynamoStateStore(world.clients.dynamodb, TABLE)
    world.clients.dynamodb.put_item(TableName=TABLE, Item={"service": {"S": "chat"}})
    store.write("chat", State(at=1.0), store.read("chat").version)
    assert store.read("chat") == Stored(State(at=1.0), 1)


def test_a_write_that_meets_itself_is_no_lost_race(world):
    """A write whose answer got lost is sent a second time by botocore."""
    store = DynamoStateStore(world.clients.dynamodb, TABLE)
    sent = []

    def twice(asked):
        sent.append(asked)
        if len(sent) == 1:
            world.clients.dynamodb.put_item(**asked)

    with world.board.answering("dynamodb.PutItem", twice):
        store.write("chat", State(at=1.0), 0)
    assert len(sent) == 2
    assert store.read("chat") == Stored(State(at=1.0), 1)


def test_a_write_of_the_same_state_by_another_run_is_a_lost_race(world):
    store = DynamoStateStore(world.clients.dynamodb, TABLE)
    store.write("chat", State(at=1.0), 0)
    with pytest.raises(VersionConflictError):
        store.write("chat", State(at=1.0), 0)


def test_other_errors_are_not_taken_for_a_lost_race(world):
    store = DynamoStateStore(world.clients.dynamodb, TABLE)
    with world.board.failing("dynamodb.PutItem", "ProvisionedThroughputExceededException"), pytest.raises(ClientError):
        store.write("chat", State(at=1.0), 0)
