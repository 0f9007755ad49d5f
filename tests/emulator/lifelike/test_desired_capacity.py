from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError


@pytest.mark.parametrize(("desired", "message"), [(6, "above max value 5"), (0, "below min value 1")])
def test_a_capacity_outside_the_bounds_is_refused_and_changes_nothing(desk: Any, desired: int, message: str) -> None:
    desk.make_group(MinSize=1, MaxSize=5, DesiredCapacity=2)
    with pytest.raises(ClientError, match=message):
        desk.scale(desired)
    assert desk.group()["DesiredCapacity"] == 2


@pytest.mark.parametrize(
    ("operation", "how"),
    [
        ("set_desired_capacity", {"DesiredCapacity": 1}),
        ("suspend_processes", {}),
        ("attach_load_balancer_target_groups", {"TargetGroupARNs": ["x"]}),
        ("put_scaling_policy", {"PolicyName": "x"}),
        ("set_instance_protection", {"InstanceIds": [], "ProtectedFromScaleIn": True}),
        ("update_auto_scaling_group", {"MinSize": 0}),
        ("start_instance_refresh", {}),
    ],
)
def test_an_unknown_group_is_a_validation_error(desk: Any, operation: str, how: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match="ValidationError"):
        getattr(desk.asg, operation)(AutoScalingGroupName="nobody", **how)
