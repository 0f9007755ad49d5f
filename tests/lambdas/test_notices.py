"""EC2's notices about spot instances: which instance is replaced, which stays, and what the log says."""

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
    """Return the event as EventBridge sends it."""
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
    """`notify(kind, instance_id)` returns the handler's reply and the line that it logged."""
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
    """Describe the groups as they are, except for this instance's lifecycle state."""

    def answer(arguments):
        names = arguments["AutoScalingGroupNames"]
        pools = [pool for service in world.pools.values() for pool in service.values()]
        groups = [described(pool.group) for pool in pools if pool.group in names]
        for group in groups:
            for member in group["Instances"]:
                if member["InstanceId"] == instance_id:
                    member |= {"LifecycleState": state, **changes}
        return {"AutoScalingGroups": groups}

    def described(name):
        with world.board.answering(DESCRIBE, lambda _: None):
            answer = world.clients.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])
        return answer["AutoScalingGroups"][0]

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
    assert world.desired() == {"l4": 2}, "the group replaces it"
    assert going not in world.ids("l4")
    assert staying in world.ids("l4")
    assert line is not None
    expected = {
        "level": "INFO", "service_name": "chat", "pool": "l4", "instance": going, "mode": "enforce",
        "outcome": "applied", "notice": NoticeKind.INTERRUPTION.value, "codes": ["notice.replace"], "faults": [],
    }  # fmt: skip
    assert {key: line[key] for key in expected} == expected


def test_an_instance_outside_the_stack_is_ignored(world, notify):
    """EventBridge delivers the events of the whole account and region."""
    world.stand("chat", {"l4": 2})
    assert notify(NoticeKind.INTERRUPTION, "i-0123456789abcdef0") == ({"services": 0}, None)
    assert world.board.writes() == []


@pytest.mark.parametrize("kind", list(NoticeKind))
@pytest.mark.parametrize("state", ["Terminating", "Terminating:Wait", "Terminating:Proceed", "Detaching"])
def test_an_instance_that_is_leaving_already_is_left_alone(world, notify, kind, state):
    """Both notices can come, each more than once."""
    world.stand("chat", {"l4": 10})
    going = world.ids("l4")[0]
    with lifecycle(world, going, state):
        reply, line = notify(kind, going)
    assert reply == {"services": 1, "unchanged": 1}
    assert line["codes"] == ["notice.leaving"]
    assert world.board.writes() == []


@pytest.mark.parametrize("kind", list(NoticeKind))
def test_in_shadow_mode_nothing_changes(world, notify, kind):
    world.stand("chat", {"l4": 10}, policy={"mode": "shadow"})
    reply, line = notify(kind, world.ids("l4")[0])
    assert reply == {"services": 1, "shadow": 1}
    assert (line["mode"], line["codes"]) == ("shadow", ["notice.shadow"])
    assert world.board.writes() == []


def test_a_booting_instance_is_replaced_before_it_ends(world, notify):
    world.stand("chat", {"l4": 2})
    going = world.ids("l4")[0]
    with lifecycle(world, going, "Pending:Wait"):
        assert notify(NoticeKind.INTERRUPTION, going)[0] == {"services": 1, "applied": 1}


def test_a_worker_that_will_be_interrupted_is_replaced_despite_its_protection(world, notify):
    """Every busy worker is protected, but in two minutes EC2 ends it with its job anyway."""
    world.stand("train", {"gpu": 2}, policy={"workload": "training"})
    going = world.ids("gpu", "train")[0]
    with lifecycle(world, going, "InService", ProtectedFromScaleIn=True):
        assert notify(NoticeKind.INTERRUPTION, going)[0] == {"services": 1, "applied": 1}
    assert going not in world.ids("gpu", "train")


def test_a_recommendation_ends_no_job(world, notify):
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
def test_a_recommendation_is_followed_if_the_others_can_carry_the_load(world, notify, instances, replaced):
    """At a target utilisation of 0.8, four full instances carry the load that five were sized for."""
    world.stand("chat", {"l4": instances})
    reply, line = notify(NoticeKind.REBALANCE, world.ids("l4")[0])
    assert line["codes"] == ["notice.replace" if replaced else "notice.needed"]
    assert reply == {"services": 1, "applied" if replaced else "unchanged": 1}


def test_recommendations_for_all_instances_at_once_do_not_end_all(world):
    """moto fills a group at once. AWS takes minutes, in which new instances are pending, so the group is built here."""
    parameter = world.stand("chat", {"l4": 10})
    ids = world.ids("l4")
    ended: list[str] = []
    for id_ in ids:
        group = notices.groups.describe(world.clients.autoscaling, ["chat-l4"]).found["chat-l4"]
        members = tuple(
            notices.Member(m.id, m.type, m.zone, "Terminating:Wait" if m.id in ended else m.lifecycle)
            for m in group.members
        )
        group = notices.Group(group.name, group.desired, group.min_size, group.max_size, members)
        member = next(m for m in members if m.id == id_)
        if notices.judge(NoticeKind.REBALANCE, parameter.service, group, member) is notices.NoticeVerdict.REPLACE:
            ended.append(id_)
    assert len(ended) == 2


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ScalingActivityInProgress", "Activity is in progress"),
        ("ValidationError", "Instance is not in a state to be terminated"),
        ("ValidationError", "Instance Id not found - No managed instance found for instance ID"),
    ],
)
def test_an_instance_that_another_run_ended_first_is_no_failure(world, notify, code, message):
    """Two notices at once: both runs see the instance in service, and AWS refuses the second."""
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
def test_a_replacement_that_aws_refuses_is_a_failure(world, notify, code, fault):
    """The instance stays in service, and the fault names the call."""
    world.stand("chat", {"l4": 2})
    going = world.ids("l4")[0]
    with world.board.failing(TERMINATE, code, "no"):
        reply, line = notify(NoticeKind.INTERRUPTION, going)
    assert reply == {"services": 1, "failed": 1, "faults": {"chat": [fault]}}
    assert (line["level"], line["outcome"]) == ("ERROR", "failed")
    assert [(f["code"], f["during"]) for f in line["faults"]] == [(fault, "TerminateInstanceInAutoScalingGroup")]
    assert going in world.ids("l4")


def test_a_notice_whose_groups_cannot_be_read_fails_the_run(world, notify):
    """It becomes a dead letter, and the error names the call."""
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


def test_a_group_deleted_by_hand_does_not_block_notices_for_the_others(world, notify):
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
def test_other_events_are_no_notices(other):
    assert notices.read(other) is None


def test_the_program_subscribes_to_the_notices_that_the_scaler_reads():
    from infra.scaler import NOTICES

    assert set(NOTICES) == {kind.value for kind in NoticeKind}


def test_a_recommendation_is_not_followed_where_the_group_launches_no_other(world, notify):
    world.stand("chat", {"l4": 10})
    world.clients.autoscaling.suspend_processes(AutoScalingGroupName="chat-l4", ScalingProcesses=["Launch"])
    reply, line = notify(NoticeKind.REBALANCE, world.ids("l4")[0])
    assert (reply, line["codes"]) == ({"services": 1, "unchanged": 1}, ["notice.needed"])
    assert world.board.writes() == []
