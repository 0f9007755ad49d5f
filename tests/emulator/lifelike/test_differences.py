from __future__ import annotations

from pathlib import Path

import boto3
from moto.autoscaling import models
from moto.core.responses import BaseResponse

from gpu_fleet.emulator import EmbeddedCloud
from gpu_fleet.emulator.lifelike import DIFFERENCES
from gpu_fleet.emulator.lifelike import __file__ as package
from gpu_fleet.emulator.lifelike.refusals import REFUSALS
from gpu_fleet.emulator.lifelike.refusals import __file__ as refusals_package

DIFFERENCE_MODULES = {p.stem for p in Path(package).parent.glob("*.py")} - {"__init__", "difference"}
REFUSAL_MODULES = {p.stem for p in Path(refusals_package).parent.glob("*.py")} - {"__init__"}


def test_each_difference_is_named_sourced_and_has_its_module_and_its_test() -> None:
    assert len(DIFFERENCES) == len(DIFFERENCE_MODULES)
    assert len(REFUSALS) == len(REFUSAL_MODULES)
    assert len({d.name for d in (*DIFFERENCES, *REFUSALS)}) == len(DIFFERENCES) + len(REFUSALS)
    for difference in (*DIFFERENCES, *REFUSALS):
        assert all(s.startswith("https://docs.aws.amazon.com/") for s in difference.source.split())
        assert difference.moto
        assert difference.aws
    here = Path(__file__).parent
    assert {p.stem.removeprefix("test_") for p in here.glob("test_*.py")} >= DIFFERENCE_MODULES
    assert {p.stem.removeprefix("test_") for p in (here / "refusals").glob("test_*.py")} >= REFUSAL_MODULES


def test_closing_the_cloud_restores_moto() -> None:
    owners = [models.FakeAutoScalingGroup, models.AutoScalingBackend, BaseResponse]
    before = [dict(vars(owner)) for owner in owners]
    with EmbeddedCloud():
        assert [dict(vars(owner)) for owner in owners] != before
        boto3.client("autoscaling").describe_auto_scaling_groups()
    assert [dict(vars(owner)) for owner in owners] == before
