"""A stack and a policy in the user's folder `own/`, through the Pulumi program in the embedded cloud, and the demo."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gpu_fleet.config.document import DocumentError
from gpu_fleet.emulator import provision
from gpu_fleet.replay.demo import DemoOptions, prepare
from gpu_fleet.replay.demo_traffic import TrafficOptions


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Path:
    """A project whose only stack is `mine`, with the policy `own`, both in `own/`."""
    folder = tmp_path / "project"
    (folder / "own/policies").mkdir(parents=True)
    (folder / "Pulumi.yaml").symlink_to(root / "Pulumi.yaml")
    (folder / "policies").symlink_to(root / "policies")
    stack = (root / "Pulumi.local.yaml").read_text().replace("policy: chat", "policy: mine")
    (folder / "own/Pulumi.mine.yaml").write_text(stack)
    policy = (root / "policies/chat.yaml").read_text().partition("cases:")[0]
    (folder / "own/policies/mine.yaml").write_text(policy + "mode: shadow\n")
    # The program reads the files beside it: a link would lead back to the project's own root.
    shutil.copytree(root / "infra", folder / "infra", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_the_program_makes_a_stack_of_own(project: Path) -> None:
    with provision("mine", project) as cloud:
        service = cloud.services["chat"]["service"]
    assert service["policy"]["mode"] == "shadow"
    assert [pool["name"] for pool in service["pools"]] == ["l4", "l40s", "h100"]


def test_the_demo_reads_a_stack_of_own(project: Path) -> None:
    plan = prepare(project, DemoOptions("mine", traffic=TrafficOptions(minutes=5)))
    assert plan.service.policy.mode == "shadow"
    assert plan.options.stack == "mine"


def test_a_stack_in_both_places_makes_nothing(project: Path) -> None:
    shutil.copy(project / "own/Pulumi.mine.yaml", project)
    with pytest.raises(DocumentError, match=r"must be the stack's only file; Pulumi\.mine\.yaml is there too"):
        provision("mine", project)


def test_an_error_in_own_has_its_place_there(project: Path) -> None:
    path = project / "own/policies/mine.yaml"
    path.write_text(path.read_text().replace("attainment: 0.995", "attainment: 1.5"))
    with pytest.raises(DocumentError, match=r"own/policies/mine\.yaml:10:3: slo\.attainment: must be below 1"):
        provision("mine", project)
