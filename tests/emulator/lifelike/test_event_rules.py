"""EC2's events in the embedded cloud: their receivers and format."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import pytest

from gpu_fleet.emulator import faults

WARNING = "EC2 Spot Instance Interruption Warning"


class Listener:
    """A function that a rule targets, on a desk with one spot instance."""

    def __init__(
        self, desk: Any, pattern: Mapping[str, Any], *, permitted: bool = True, state: str = "ENABLED"
    ) -> None:
        self.desk = desk
        self.events: list[tuple[float, Mapping[str, Any]]] = []
        desk.make_group(DesiredCapacity=1, distribution={"OnDemandPercentageAboveBaseCapacity": 0})
        desk.pass_time(200)
        (instance,) = desk.instances()
        self.instance = instance["InstanceId"]
        rule = desk.cloud.client("events").put_rule(Name="spot", EventPattern=json.dumps(pattern), State=state)
        function = self._function()
        desk.cloud.client("events").put_targets(Rule="spot", Targets=[{"Id": "scaler", "Arn": function}])
        if permitted:
            desk.cloud.client("lambda").add_permission(
                FunctionName="scaler", StatementId="spot", Action="lambda:InvokeFunction",
                Principal="events.amazonaws.com", SourceArn=rule["RuleArn"],
            )  # fmt: skip
        desk.cloud.lifelike.events.functions[function] = lambda event: self.events.append((desk.cloud.now, event))

    def _function(self) -> str:
        iam = self.desk.cloud.client("iam")
        role = iam.create_role(RoleName="scaler", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as z:
            z.writestr("handler.py", "")
        made = self.desk.cloud.client("lambda").create_function(
            FunctionName="scaler", Role=role, Runtime="python3.13", Handler="handler.handle",
            Code={"ZipFile": archive.getvalue()},
        )  # fmt: skip
        return str(made["FunctionArn"])


def test_an_event_has_the_documented_format(desk: Any) -> None:
    listener = Listener(desk, {"source": ["aws.ec2"], "detail-type": [WARNING]})
    sent = desk.cloud.now
    with faults.spot_interruption(desk.cloud, listener.instance):
        desk.pass_time(10)
    ((at, event),) = listener.events
    assert at == sent + 1
    assert event["detail"] == {"instance-id": listener.instance, "instance-action": "terminate"}
    assert event["detail-type"] == WARNING
    assert event["source"] == "aws.ec2"
    assert event["resources"] == [f"arn:aws:ec2:us-east-1:{desk.cloud.account}:instance/{listener.instance}"]


def test_a_recommendation_has_its_own_detail_type(desk: Any) -> None:
    listener = Listener(desk, {"source": ["aws.ec2"]})
    faults.rebalance_recommendation(desk.cloud, listener.instance)
    desk.pass_time(10)
    ((_, event),) = listener.events
    assert event["detail-type"] == "EC2 Instance Rebalance Recommendation"
    assert event["detail"] == {"instance-id": listener.instance}


@pytest.mark.parametrize(
    ("pattern", "how"),
    [
        ({"source": ["aws.autoscaling"]}, {}),
        ({"source": ["aws.ec2"], "detail-type": ["EC2 Instance State-change Notification"]}, {}),
        ({"source": ["aws.ec2"]}, {"state": "DISABLED"}),
        ({"source": ["aws.ec2"]}, {"permitted": False}),
    ],
    ids=["another source", "another type", "a disabled rule", "a function that does not let the rule in"],
)
def test_an_event_without_a_matching_rule_or_permission_is_not_delivered(desk: Any, pattern: Any, how: Any) -> None:
    listener = Listener(desk, pattern, **how)
    with faults.spot_interruption(desk.cloud, listener.instance):
        desk.pass_time(10)
    assert listener.events == []
