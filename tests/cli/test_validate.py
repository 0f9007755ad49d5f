from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gpu_fleet.cli.app import COMMANDS, app

run = CliRunner()


@pytest.fixture
def project(tmp_path: Path, root: Path) -> Path:
    """A copy of the project's YAML, to break."""
    shutil.copytree(root / "policies", tmp_path / "policies")
    for path in root.glob("Pulumi.*.yaml"):
        shutil.copy(path, tmp_path)
    return tmp_path


def validate(project: Path, *arguments: str) -> Any:
    return run.invoke(app, ["validate", "--root", str(project), *arguments])


def break_file(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_shipped_project_has_no_errors(project: Path) -> None:
    result = validate(project)
    assert result.exit_code == 0
    assert "no errors in 10 files" in result.stdout


def test_errors_of_every_file_come_at_once_on_stderr_without_a_traceback(project: Path) -> None:
    break_file(project / "policies/chat.yaml", "attainment: 0.995", "attainment: 1.5")
    break_file(project / "policies/catalog.yaml", "vcpus: 4", "vcpus: 0")
    break_file(project / "Pulumi.dev.yaml", "min: 1, max: 3", "min: 4, max: 3")
    break_file(project / "Pulumi.prod.yaml", "gpu-fleet:scaler", "gpu-fleet:scalar")
    result = validate(project)
    assert result.exit_code == 1
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert "policies/chat.yaml:10:3: slo.attainment: must be below 1 (got 1.5)" in lines
    assert any(line.endswith("types.g5.xlarge.vcpus: must be at least 1 (got 0)") for line in lines)
    assert any(line.endswith("gpu-fleet:services.chat.pools.l4.min: must be at most max, 3 (got 4)") for line in lines)
    assert any(line.endswith("gpu-fleet:scalar: unknown key; did you mean scaler?") for line in lines)
    assert "Traceback" not in result.stderr


def test_a_missing_stack_is_a_clear_error(project: Path) -> None:
    result = validate(project, "--stack", "staging")
    assert result.exit_code == 1
    assert result.stderr == "Pulumi.staging.yaml: no such stack file; there is dev, local, prod, vertical\n"


def test_one_stack_is_checked_alone(project: Path) -> None:
    break_file(project / "Pulumi.dev.yaml", "min: 1, max: 3", "min: 4, max: 3")
    assert validate(project, "--stack", "prod").exit_code == 0
    assert validate(project, "--stack", "prod", "--stack", "dev").exit_code == 1


def test_a_stack_fails_if_its_library_has_errors(project: Path) -> None:
    break_file(project / "policies/profiles.yaml", "estimate: true", "estimate: maybe")
    result = validate(project, "--stack", "dev")
    assert result.exit_code == 1
    assert "estimate: must be true or false (got maybe)" in result.stderr


def test_a_file_outside_the_project_is_checked_against_the_library(project: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("model: llama-3.1-8\n")
    result = validate(project, str(mine))
    assert result.exit_code == 1
    assert "mine.yaml:1:1: model: must be a model of profiles.yaml; did you mean llama-3.1-8b?" in result.stderr
    mine.write_text("model: llama-3.1-8b\n")
    assert validate(project, str(mine)).exit_code == 0


def test_a_broken_file_does_not_fail_the_check_of_another(project: Path) -> None:
    break_file(project / "policies/batch.yaml", "model:", "modell:")
    assert validate(project, str(project / "policies/chat.yaml")).exit_code == 0
    assert validate(project, str(project / "policies")).exit_code == 1


def test_a_missing_path_is_reported(project: Path) -> None:
    result = validate(project, "nowhere.yaml")
    assert (result.exit_code, result.stderr) == (1, "nowhere.yaml: no such file\n")


def test_a_folder_that_is_no_project_is_reported(tmp_path: Path) -> None:
    result = validate(tmp_path)
    assert result.exit_code == 1
    assert "policies: no such folder" in result.stderr
    assert "is this the project's root?" in result.stderr


def test_cases_are_checked_with_their_policy(project: Path) -> None:
    (project / "policies/mine.yaml").write_text(
        "model: llama-3.1-8b\n"
        "cases:\n"
        "  - name: a\n"
        "    given: {pools: {l4: {types: [g6.xlarge], redy: 2}}}\n"
        "    expect: {total_desired: lots}\n"
    )
    result = validate(project)
    assert result.exit_code == 1
    assert "policies/mine.yaml:4:46: cases[0].given.pools.l4.redy: unknown key; did you mean ready?" in result.stderr
    assert 'cases[0].expect.total_desired: must be a number, a bound like ">=5", or a range like "5..8" (got lots)' in (
        result.stderr
    )


def test_a_wrong_call_ends_with_2() -> None:
    assert run.invoke(app, ["validat"]).exit_code == 2
    assert run.invoke(app, ["validate", "--nope"]).exit_code == 2


def test_help_lists_every_command_and_imports_none_of_them() -> None:
    program = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from gpu_fleet.cli.app import app\n"
        "result = CliRunner().invoke(app, ['--help'])\n"
        "assert result.exit_code == 0\n"
        "print(result.stdout)\n"
        "heavy = {'numpy', 'moto', 'pulumi', 'boto3', 'pydantic', 'gpu_fleet.cli.validate'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for name in COMMANDS:
        assert name in result.stdout


@pytest.mark.parametrize("name", ["validate", "test", "schema", "explain", "replay"])
def test_each_command_has_help_of_its_own(name: str) -> None:
    result = run.invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert f"gpu-fleet {name}" in result.stdout


def test_outdated_schemas_are_found_and_written(project: Path) -> None:
    assert run.invoke(app, ["schema", "--check", "--root", str(project)]).exit_code == 0
    (project / "policies/README.md").write_text("old")
    (project / "policies/schema/stack.json").unlink()
    result = run.invoke(app, ["schema", "--check", "--root", str(project)])
    assert result.exit_code == 1
    assert "policies/README.md: is not current" in result.stderr
    assert "policies/schema/stack.json: is not current" in result.stderr
    assert run.invoke(app, ["schema", "--root", str(project)]).exit_code == 0
    assert run.invoke(app, ["schema", "--check", "--root", str(project)]).exit_code == 0


def test_an_image_that_docker_hub_serves_itself_is_a_warning(project: Path) -> None:
    result = validate(project, "--stack", "dev")
    assert result.exit_code == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: Pulumi.dev.yaml:22:9: gpu-fleet:services.chat.container.image: Docker Hub serves")
    break_file(
        project / "Pulumi.dev.yaml",
        "  gpu-fleet:tags",
        "  gpu-fleet:image_caches: {docker.io: {existing_prefix: hub}}\n  gpu-fleet:tags",
    )
    assert validate(project, "--stack", "dev").stderr == ""
    assert validate(project, "--stack", "prod").stderr == ""
