"""What Image Builder runs: the component's script, run for real with a docker and an aws that refuse."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from gpu_fleet.config.image_registry import PulledImage
from infra.baked_ami import builder_statements, document
from infra.iam import Place

HOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
IN_ECR = f"{HOST}/hub/vllm/vllm-openai:v0.29.0"
PLACE = Place("aws", "us-east-1", "123456789012")

PROGRAMS = {
    # Logins are kept in a file, in the open: https://docs.docker.com/reference/cli/docker/login/
    "docker": """
        config=${{DOCKER_CONFIG:-{root}/home}}/config.json
        case "$1" in
          login) [ "$(cat)" = token ] || exit 1; echo "${{@: -1}}" > "$config"; cp "$config" {root}/login ;;
          pull)
            case "${{@: -1}}" in {host}/*) grep -qx {host} "$config" || exit 1 ;; esac
            echo "${{@: -1}}" >> {root}/images ;;
          image) grep -qx "$3" {root}/images ;;
          *) exit 2 ;;
        esac""",
    "aws": """[ "$*" = "ecr get-login-password --region us-east-1" ] || exit 2; cat {root}/token""",
}


def run(root: Path, image: str, phase: str) -> int:
    """Run a phase's script as the component's step does, and return its exit status."""
    (root / "bin").mkdir(exist_ok=True)
    (root / "home").mkdir(exist_ok=True)
    for name, body in PROGRAMS.items():
        program = root / "bin" / name
        program.write_text(f"#!/bin/bash\n{body.format(root=root, host=HOST)}\n")
        program.chmod(0o755)
    (script,) = [
        command
        for each in json.loads(document(image))["phases"] if each["name"] == phase
        for step in each["steps"]
        for command in step["inputs"]["commands"]
    ]  # fmt: skip
    environment = {"PATH": f"{root / 'bin'}:/usr/bin:/bin", "TMPDIR": str(root / "home")}
    return subprocess.run(["bash", "-c", script], check=False, env=environment, capture_output=True).returncode


def test_the_image_is_pulled_and_the_login_is_not_baked(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("token")
    assert run(tmp_path, IN_ECR, "build") == 0
    assert (tmp_path / "images").read_text() == f"{IN_ECR}\n"
    assert (tmp_path / "login").exists()
    assert list((tmp_path / "home").iterdir()) == []


def test_an_image_of_another_registry_needs_no_login(tmp_path: Path) -> None:
    assert run(tmp_path, "vllm/vllm-openai:v0.29.0", "build") == 0
    assert not (tmp_path / "login").exists()


def test_a_login_that_is_refused_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("expired")
    assert run(tmp_path, IN_ECR, "build") != 0
    assert not (tmp_path / "images").exists()
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize(("images", "passes"), [(IN_ECR, True), ("other/image:v1", False)])
def test_an_ami_without_the_image_fails_its_test(tmp_path: Path, images: str, passes: bool) -> None:
    (tmp_path / "images").write_text(f"{images}\n")
    assert (run(tmp_path, IN_ECR, "test") == 0) is passes


def test_the_builder_may_pull_its_own_image_and_read_its_own_component_alone() -> None:
    component = "arn:aws:imagebuilder:us-east-1:123456789012:component/chat/1.0.0/1"
    granted = {s.sid: s for s in builder_statements(PLACE, component, PulledImage(IN_ECR, cached=True))}
    assert granted["ReadComponent"].resources == [component]
    assert granted["PullImage"].resources == ["arn:aws:ecr:us-east-1:123456789012:repository/hub/vllm/vllm-openai"]
    assert "ecr:BatchImportUpstreamImage" in granted["PullImage"].actions
    public = builder_statements(PLACE, component, PulledImage("vllm/vllm-openai:v1", cached=False))
    assert [action for s in public for action in s.actions if action.startswith("ecr:")] == []
