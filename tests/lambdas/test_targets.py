"""The phase of an instance."""

from __future__ import annotations

import pytest

from gpu_fleet.scaling.observation import Phase
from lambdas.scaler.groups import Member
from lambdas.scaler.targets import Target, phase


def member(lifecycle: str = "InService", *, healthy: bool = True) -> Member:
    return Member("i-1", "g6.xlarge", "us-east-1a", lifecycle, healthy)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target("healthy"), Phase.READY),
        (Target("unavailable", "Target.HealthCheckDisabled"), Phase.READY),
        (Target("initial", "Elb.RegistrationInProgress"), Phase.STARTING),
        (Target("initial", "Elb.InitialHealthChecking"), Phase.STARTING),
        (Target("unused", "Target.NotInUse"), Phase.STARTING),
        (Target("unused", "Target.InvalidState"), Phase.UNHEALTHY),
        (Target("unhealthy", "Target.Timeout"), Phase.UNHEALTHY),
        (Target("unhealthy.draining", "Target.FailedHealthChecks"), Phase.DRAINING),
        (Target("draining", "Target.DeregistrationInProgress"), Phase.DRAINING),
        (None, Phase.STARTING),
    ],
)
def test_an_instance_in_service_has_the_phase_of_its_target(target, expected):
    assert phase(member(), target, behind_load_balancer=True) is expected


@pytest.mark.parametrize("lifecycle", ["Pending", "Pending:Wait", "Pending:Proceed"])
def test_a_booting_instance_is_starting_even_if_its_target_is_healthy(lifecycle):
    assert phase(member(lifecycle), Target("healthy"), behind_load_balancer=True) is Phase.STARTING


@pytest.mark.parametrize("lifecycle", ["Terminating", "Terminating:Wait", "Terminating:Proceed"])
def test_a_terminating_instance_drains_even_if_its_target_is_healthy(lifecycle):
    assert phase(member(lifecycle), Target("healthy"), behind_load_balancer=True) is Phase.DRAINING


@pytest.mark.parametrize("lifecycle", ["Standby", "Detached", "Detaching", "EnteringStandby", "Warmed:Stopped"])
def test_an_instance_outside_the_fleet_has_no_phase(lifecycle):
    assert phase(member(lifecycle), Target("healthy"), behind_load_balancer=True) is None


def test_an_instance_that_the_group_calls_unhealthy_is_unhealthy():
    assert phase(member(healthy=False), Target("healthy"), behind_load_balancer=True) is Phase.UNHEALTHY


def test_training_instances_are_ready_once_in_service():
    assert phase(member(), None, behind_load_balancer=False) is Phase.READY
