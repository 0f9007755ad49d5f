"""Facts of instances."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from gpu_fleet.scaling.observation import Phase
from lambdas.scaler.instances import InstanceBook


def test_ec2_is_asked_for_each_instance_once(world):
    world.stand()
    ids = world.ids("l4") + world.ids("l40s")
    book = InstanceBook()
    world.board.calls.clear()
    book.learn(world.clients.ec2, ids)
    book.learn(world.clients.ec2, ids)
    assert world.board.operations() == ["ec2.DescribeInstances"]
    assert all(book.facts(id_) is not None for id_ in ids)


def test_spot_and_the_launch_time_are_learned(world):
    world.stand()
    spot, other = world.ids("l4")
    launched = world.clients.ec2.describe_instances(InstanceIds=[spot])["Reservations"][0]["Instances"][0]["LaunchTime"]

    def as_spot(_):
        instance = {"InstanceId": spot, "LaunchTime": launched, "InstanceLifecycle": "spot"}
        return {"Reservations": [{"Instances": [instance, {"InstanceId": other, "LaunchTime": launched}]}]}

    book = InstanceBook()
    with world.board.answering("ec2.DescribeInstances", as_spot):
        book.learn(world.clients.ec2, [spot, other])
    assert book.facts(spot).spot
    assert not book.facts(other).spot
    assert book.facts(spot).launched_at == launched.timestamp()


def test_more_instances_than_a_filter_holds_take_two_calls(world):
    world.board.calls.clear()
    InstanceBook().learn(world.clients.ec2, [f"i-{i:017x}" for i in range(201)])
    sizes = [len(arguments["Filters"][0]["Values"]) for _, arguments in world.board.calls]
    assert sizes == [200, 1]


def test_an_instance_that_ec2_does_not_know_yet_is_asked_for_again(world):
    book = InstanceBook()
    world.board.calls.clear()
    book.learn(world.clients.ec2, ["i-00000000000000001"])
    book.learn(world.clients.ec2, ["i-00000000000000001"])
    assert book.facts("i-00000000000000001") is None
    assert len(world.board.calls) == 2


def test_a_failed_call_keeps_what_was_learned(world):
    world.stand()
    first, second = world.ids("l4")
    book = InstanceBook()
    book.learn(world.clients.ec2, [first])
    with world.board.failing("ec2.DescribeInstances"), pytest.raises(ClientError):
        book.learn(world.clients.ec2, [first, second])
    assert book.facts(first) is not None


def test_an_instance_became_ready_when_it_was_first_seen_ready_after_starting():
    book = InstanceBook()
    assert book.ready_at("i", Phase.STARTING, 100) is None
    assert book.ready_at("i", Phase.READY, 160) == 160
    assert book.ready_at("i", Phase.READY, 220) == 160


def test_when_an_instance_first_seen_ready_became_so_is_unknown():
    book = InstanceBook()
    assert book.ready_at("i", Phase.READY, 100) is None
    assert book.ready_at("i", Phase.READY, 160) is None


def test_an_instance_that_recovers_keeps_its_ready_time():
    book = InstanceBook()
    book.ready_at("i", Phase.STARTING, 100)
    book.ready_at("i", Phase.READY, 160)
    assert book.ready_at("i", Phase.UNHEALTHY, 220) == 160
    assert book.ready_at("i", Phase.READY, 280) == 160


def test_the_book_forgets_instances_that_are_gone(world):
    world.stand()
    first, second = world.ids("l4")
    book = InstanceBook()
    book.learn(world.clients.ec2, [first, second])
    book.ready_at(second, Phase.STARTING, 100)
    book.ready_at(second, Phase.READY, 160)
    book.forget_all_but([first])
    assert book.facts(second) is None
    assert book.facts(first) is not None
    assert book.ready_at(second, Phase.READY, 220) is None
