"""EC2's notices about spot instances: which instance is replaced, which is left, and what is said of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lambdas.scaler import handler, log, notices
from lambdas.scaler.notices import NoticeKind, UnreadableGroupsError

TERMINATE = "autoscaling.TerminateInstanceInAutoScalingGroup"
DESCRIBE = "autoscaling.DescribeAutoScalingGroups"


def event(kind: NoticeKind, instance_id: str) -> dict[str, Any]:
    """As EventBridge sends it."""
    return {
        "version": "0",
        "id": "1e5527d7-bb36-4607-3370-4164db56a40e",
        "detail-type": kind.value,
        "source": "aws.ec2",
        "account": "123456789012",
        "time": "2026-03-02T10:00:20Z",
        "region": "us-east-1",
        "resources": [f"arn:aws:ec2:us-east-1:123456789012:instance/{instance_id}"],
        "detail": {"instance-id": instance_id, "instance-action": "terminate"},
    }


@pytest.fixture
def notify(world, monkeypatch, capsys):
    """`notify(kind, instance_id)`: the handler's reply, and the line that it logged."""
    monkeypatch.setattr(handler.time, "time", lambda: world.now)
    monkeypatch.setattr(handler, "scaler", lambda: world.scaler(lambda *_: pytest.fail("a notice decides nothing")))

    def run(kind: NoticeKind, instance_id: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
        world.board.calls.clear()
        reply = handler.handle(event(kind, instance_id), None)
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        logged = [line for line in lines if line.get("message") == log.NOTICE]
        assert len(logged) <= 1
        return reply, logged[0] if logged else None

    return run


def lifecycle(world, instance_id: str, state: str, pool: str = "l4", **changes: Any):
    """The groups as they stand, but this instance in another state."""

    def answer(arguments):
        names = arguments["AutoScalingGroupNames"]
        groups = [g for p in world.pools.values() for one in p.values() if one.group in names for g in [raw(one.group)]]
        for group in groups:
            for member in group["Instances"]:
                if member["InstanceId"] == instance_id:
                    member |= {"LifecycleState": state, **changes}
        return {"AutoScalingGroups": groups}

    def raw(name):
        with world.board.answering(DESCRIBE, lambda _: None):
            found = world.clients.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])
        return found["AutoScalingGroups"][0]

    return world.board.answering(DESCRIBE, answer)


def test_an_instance_that_will_be_interrupted_is_replaced(world, notify):
    world.stand("chat", {"l4": 2}, spot=True)
    world.stand("code", {"l4": 2})
    going, staying = world.ids("l4")
    reply, line = notify(NoticeKind.INTERRUPTION, going)
    assert reply == {"services": 1, "applied": 1}
    assert world.board.writes() == [
        ("TerminateInstanceInAutoScalingGroup", {"InstanceId": going, "ShouldDecrementDesiredCapacity": False})
    ]
    assert world.desired() == {"l4": 2}, "the group makes it up"
    assert going not in world.ids("l4")
    assert staying in world.ids("l4")
    assert line is not None
    wanted = {
        "level": "INFO", "service_name": "chat", "pool": "l4", "instance": going, "mode": "enforce",
        "outcome": "applied", "notice": NoticeKind.INTERRUPTION.value, "codes": ["notice.replace"], "faults": [],
    }  # fmt: skip
    assert {key: line[key] for key in wanted} == wanted


def test_an_instance_of_somebody_else_is_not_looked_after(world, notify):
    """The events are those of the whole account and region."""
    world.stand("chat", {"l4": 2})
    assert notify(NoticeKind.INTERRUPTION, "i-0123456789abcdef0") == ({"services": 0}, None)
    assert world.board.writes() == []


@pytest.mark.parametrize("kind", list(NoticeKind))
@pytest.mark.parametrize("state", ["Terminating", "Terminating:Wait", "Terminating:Proceed", "Detaching"])
def test_an_instance_that_is_leaving_already_is_left_alone(world, notify, kind, state):
    """Both notices may come, each more than once."""
    world.stand("chat", {"l4": 10})
    going = world.ids("l4")[0]
    with lifecycle(world, going, state):
        reply, line = notify(kind, going)
    assert reply == {"services": 1, "unchanged": 1}
    assert line["codes"] == ["notice.leaving"]
    assert world.board.writes() == []


@pytest.mark.parametrize("kind", list(NoticeKind))
def test_in_shadow_mode_nothing_is_touched(world, notify, kind):
    world.stand("chat", {"l4": 10}, policy={"mode": "shadow"})
    reply, line = notify(kind, world.ids("l4")[0])
    assert reply == {"services": 1, "shadow": 1}
    assert (line["mode"], line["codes"]) == ("shadow", ["notice.shadow"])
    assert world.board.writes() == []


def test_an_instance_that_still_boots_is_replaced_before_it_is_gone(world, notify):
    world.stand("chat", {"l4": 2})
    going = world.ids("l4")[0]
    with lifecycle(world, going, "Pending:Wait"):
        assert notify(NoticeKind.INTERRUPTION, going)[0] == {"services": 1, "applied": 1}


def test_a_worker_that_will_be_interrupted_is_told_to_end_its_job(world, notify):
    """It is protected, as every busy worker is, and that holds nothing: in two minutes it is gone with its job."""
    world.stand("train", {"gpu": 2}, policy={"workload": "training"})
    going = world.ids("gpu", "train")[0]
    with lifecycle(world, going, "InService", ProtectedFromScaleIn=True):
        assert notify(NoticeKind.INTERRUPTION, going)[0] == {"services": 1, "applied": 1}
    assert going not in world.ids("gpu", "train")


def test_no_job_is_given_up_for_a_recommendation(world, notify):
    world.stand("train", {"gpu": 10}, policy={"workload": "training"})
    reply, line = notify(NoticeKind.REBALANCE, world.ids("gpu", "train")[0])
    assert (reply, line["codes"]) == ({"services": 1, "unchanged": 1}, ["notice.jobs"])
    assert world.board.writes() == []


def test_a_protected_instance_stays_until_it_is_interrupted(world, notify):
    world.stand("chat", {"l4": 10})
    protected = world.ids("l4")[0]
    with lifecycle(world, protected, "InService", ProtectedFromScaleIn=True):
        assert notify(NoticeKind.REBALANCE, protected)[1]["codes"] == ["notice.protected"]
        assert notify(NoticeKind.INTERRUPTION, protected)[1]["codes"] == ["notice.replace"]


@pytest.mark.parametrize(("instances", "replaced"), [(1, False), (4, False), (5, True), (10, True)])
def test_a_recommendation_is_followed_where_the_others_can_carry_the_load(world, notify, instances, replaced):
    """At a target utilisation of 0.8, four of five carry what five were sized for."""
    world.stand("chat", {"l4": instances})
    reply, line = notify(NoticeKind.REBALANCE, world.ids("l4")[0])
    assert line["codes"] == ["notice.replace" if replaced else "notice.needed"]
    assert reply == {"services": 1, "applied" if replaced else "unchanged": 1}


def test_recommendations_for_all_instances_at_once_do_not_end_all(world):
    """moto fills a group in the moment of the call; AWS takes minutes, and counts the new ones as pending till then."""
    parameter = world.stand("chat", {"l4": 10})
    ids = world.ids("l4")
    gone: list[str] = []
    for id_ in ids:
        group = notices.groups.describe(world.clients.autoscaling, ["chat-l4"]).found["chat-l4"]
        members = tuple(
            notices.Member(m.id, m.type, m.zone, "Terminating:Wait" if m.id in gone else m.lifecycle)
            for m in group.members
        )
        group = notices.Group(group.name, group.desired, group.min_size, group.max_size, members)
        member = next(m for m in members if m.id == id_)
        if notices.judge(NoticeKind.REBALANCE, parameter.service, group, member) is notices.NoticeResult.REPLACE:
            gone.append(id_)
    assert len(gone) == 2


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ScalingActivityInProgress", "Activity is in progress"),
        ("ValidationError", "Instance is not in a state to be terminated"),
        ("ValidationError", "Instance Id not found - No managed instance found for instance ID"),
    ],
)
def test_a_run_that_was_quicker_has_done_it(world, notify, code, message):
    """Two notices at once: both see the instance in service, one is refused."""
    world.stand("chat", {"l4": 2})
    going = world.ids("l4")[0]

    def refuse(_):
        world.board.answers.pop(TERMINATE)
        world.clients.autoscaling.terminate_instance_in_auto_scaling_group(
            InstanceId=going, ShouldDecrementDesiredCapacity=False
        )
        return {"Error": {"Code": code, "Message": message}}

    world.board.answers[TERMINATE] = refuse
    reply, line = notify(NoticeKind.INTERRUPTION, going)
    assert reply == {"services": 1, "unchanged": 1}
    assert (line["codes"], line["faults"]) == (["notice.leaving"], [])
    assert world.desired() == {"l4": 2}


@pytest.mark.parametrize(("code", "fault"), [("AccessDenied", "AccessDenied"), ("ResourceContention", "AwsError")])
def test_a_replacement_that_aws_refuses_rings(world, notify, code, fault):
    """The instance stays in service: the fault names the call."""
    world.stand("chat", {"l4": 2})
    going = world.ids("l4")[0]
    with world.board.failing(TERMINATE, code, "no"):
        reply, line = notify(NoticeKind.INTERRUPTION, going)
    assert reply == {"services": 1, "failed": 1, "faults": {"chat": [fault]}}
    assert (line["level"], line["outcome"]) == ("ERROR", "failed")
    assert [(one["code"], one["during"]) for one in line["faults"]] == [(fault, "TerminateInstanceInAutoScalingGroup")]
    assert going in world.ids("l4")


def test_a_notice_of_which_nobody_knows_whose_it_is_fails_the_run(world, notify):
    """It lies among the dead letters, and the fault names the call."""
    world.stand("chat", {"l4": 2})
    going = world.ids("l4")[0]
    with (
        world.board.failing(DESCRIBE, "AccessDenied"),
        pytest.raises(UnreadableGroupsError, match=f"{going}: DescribeAutoScalingGroups: .*AccessDenied"),
    ):
        notify(NoticeKind.INTERRUPTION, going)
    with world.board.failing("ssm.GetParametersByPath", "AccessDeniedException"), pytest.raises(ClientError):
        notify(NoticeKind.INTERRUPTION, going)
    assert going in world.ids("l4")


def test_a_group_that_was_deleted_by_hand_costs_the_others_no_notice(world, notify):
    world.stand("chat", {"l4": 2})
    world.stand("code", {"l4": 0})
    world.clients.autoscaling.delete_auto_scaling_group(AutoScalingGroupName="code-l4", ForceDelete=True)
    assert notify(NoticeKind.INTERRUPTION, world.ids("l4")[0])[0] == {"services": 1, "applied": 1}
    assert notify(NoticeKind.INTERRUPTION, "i-0123456789abcdef0")[0] == {"services": 0}


@pytest.mark.parametrize(
    "other",
    [
        {},
        "text",
        {"source": "schedule"},
        {"source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification", "detail": {"instance-id": "i"}},
        {"source": "elsewhere", "detail-type": NoticeKind.INTERRUPTION.value, "detail": {"instance-id": "i"}},
        {"source": "aws.ec2", "detail-type": NoticeKind.INTERRUPTION.value, "detail": {"instance-id": None}},
        {"source": "aws.ec2", "detail-type": NoticeKind.INTERRUPTION.value, "detail": None},
        {"source": "aws.ec2", "detail-type": None, "detail": {"instance-id": "i"}},
    ],
)
def test_any_other_event_is_no_notice(other):
    assert notices.read(other) is None


def test_the_program_asks_for_the_notices_that_the_scaler_reads():
    from infra.scaler import NOTICES

    assert set(NOTICES) == {kind.value for kind in NoticeKind}
