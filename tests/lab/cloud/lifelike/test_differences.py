from __future__ import annotations

from pathlib import Path

import boto3
from moto.autoscaling import models
from moto.core.responses import BaseResponse

from lab.cloud import EmbeddedCloud
from lab.cloud.lifelike import DIFFERENCES
from lab.cloud.lifelike import __file__ as package

MENDING = {p.stem for p in Path(package).parent.glob("*.py")} - {"__init__", "difference"}


def test_each_difference_is_named_sourced_and_has_its_module_and_its_test() -> None:
    assert len(DIFFERENCES) == len({d.name for d in DIFFERENCES}) == len(MENDING)
    for difference in DIFFERENCES:
        assert all(s.startswith("https://docs.aws.amazon.com/") for s in difference.source.split())
        assert difference.moto
        assert difference.aws
    tests = {p.stem.removeprefix("test_") for p in Path(__file__).parent.glob("test_*.py")}
    assert tests >= MENDING


def test_moto_is_as_it_was_once_the_cloud_is_closed() -> None:
    owners = [models.FakeAutoScalingGroup, models.AutoScalingBackend, BaseResponse]
    before = [dict(vars(owner)) for owner in owners]
    with EmbeddedCloud():
        assert [dict(vars(owner)) for owner in owners] != before
        boto3.client("autoscaling").describe_auto_scaling_groups()
    assert [dict(vars(owner)) for owner in owners] == before
