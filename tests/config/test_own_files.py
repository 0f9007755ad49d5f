"""The folder `own/`: the user's stacks and policies, beside the shipped ones or in their place."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from gpu_fleet.cli.app import app
from gpu_fleet.config.document import DocumentError
from gpu_fleet.config.own_files import find_stack_file, library_files, stack_name, stack_names
from gpu_fleet.config.policy_files import policy_file, policy_library
from gpu_fleet.config.stack_file import pulumi_config, read_config, read_stack
from gpu_fleet.config.yaml_files import read_library
from infra.stack_problems import placed, read_engine, stack_problems

POLICY = "model: llama-3.1-8b-fp8\nslo: {ttft_seconds: 2, tpot_seconds: 0.1}\n"


@pytest.fixture
def project(tmp_path: Path, root: Path) -> Path:
    """A copy of the project's YAML, with an empty `own/`."""
    others = shutil.ignore_patterns("chat-in-place.yaml")
    shutil.copytree(root / "policies", tmp_path / "policies", ignore=others)
    for stack in ("dev", "local", "prod"):
        shutil.copy(root / f"Pulumi.{stack}.yaml", tmp_path)
    (tmp_path / "Pulumi.yaml").write_text("name: gpu-fleet\nruntime: python\n")
    (tmp_path / "own/policies").mkdir(parents=True)
    return tmp_path


def move(project: Path, stack: str) -> Path:
    """Move a shipped stack to `own/`."""
    path = project / f"own/Pulumi.{stack}.yaml"
    (project / f"Pulumi.{stack}.yaml").rename(path)
    return path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def problems_of(read: Any, *arguments: Any) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        read(*arguments)
    return [str(problem) for problem in caught.value.problems]


def command(project: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, [arguments[0], "--root", str(project), *arguments[1:]])


# ---- what cannot be read


@pytest.mark.parametrize("folder", ["own", "own/policies"])
@pytest.mark.parametrize("broken", ["file", "link"])
def test_a_file_or_a_broken_link_in_place_of_a_folder_is_refused(project: Path, folder: str, broken: str) -> None:
    shutil.rmtree(project / folder)
    if broken == "file":
        (project / folder).write_text("")
    else:
        (project / folder).symlink_to(project / "nowhere")
    assert problems_of(read_library, project) == [f"{folder}: must be a folder"]
    assert problems_of(read_stack, project, "dev") == [f"{folder}: must be a folder"]


def test_a_stack_in_both_places_is_refused_everywhere(project: Path) -> None:
    shutil.copy(project / "Pulumi.dev.yaml", project / "own")
    expected = ["own/Pulumi.dev.yaml: must be the stack's only file; Pulumi.dev.yaml is there too"]
    assert problems_of(read_stack, project, "dev") == expected
    assert problems_of(pulumi_config, project, "dev") == expected
    assert problems_of(read_engine, project, lambda _: None, "us-east-1", "dev", "gpu-fleet") == expected
    assert [str(p) for p in stack_problems(project, "dev", None)] == expected
    assert command(project, "validate").stderr.splitlines() == expected
    assert command(project, "validate", "--stack", "dev").stderr.splitlines() == expected
    assert command(project, "validate", "--stack", "prod").exit_code == 0


def test_a_file_that_pulumi_wrote_for_the_secrets_is_told_from_a_second_stack_file(project: Path) -> None:
    move(project, "dev")
    (project / "Pulumi.dev.yaml").write_text("encryptionsalt: v1:c2FsdA==:v1:bm9uY2U=:Y2lwaGVy\n")
    expected = (
        "own/Pulumi.dev.yaml: must be the stack's only file; Pulumi.dev.yaml is there too (written by pulumi: "
        "move its lines to own/Pulumi.dev.yaml, delete it, and give pulumi --config-file own/Pulumi.dev.yaml)"
    )
    assert problems_of(read_stack, project, "dev") == [expected]


def test_a_missing_stack_lists_the_stacks_of_both_places(project: Path) -> None:
    move(project, "dev")
    expected = ["Pulumi.staging.yaml: no such stack file; there is dev, local, prod"]
    assert problems_of(read_stack, project, "staging") == expected


def test_a_misnamed_policy_is_refused(project: Path) -> None:
    (project / "own/policies/mine.yml").write_text(POLICY)
    assert problems_of(read_library, project) == ["own/policies/mine.yml: must end in .yaml"]


def test_a_file_that_cannot_be_read_is_named_as_the_user_knows_it(project: Path) -> None:
    (project / "own/policies/mine.yaml").mkdir()
    assert problems_of(read_library, project) == ["own/policies/mine.yaml: cannot be read: Is a directory"]
    (project / "own/policies/mine.yaml").rmdir()
    (project / "own/policies/mine.yaml").write_bytes(POLICY.encode() + b"# caf\xe9\n")
    assert problems_of(read_library, project) == ["own/policies/mine.yaml:3:1: must be UTF-8 text"]


# ---- places of errors


def test_an_error_in_a_policy_has_its_place_in_own(project: Path) -> None:
    (project / "own/policies/mine.yaml").write_text(POLICY.replace("ttft_seconds: 2", "ttft_seconds: 0"))
    expected = "own/policies/mine.yaml:2:7: slo.ttft_seconds: must be above 0 (got 0)"
    assert problems_of(read_library, project) == [expected]
    assert command(project, "validate").stderr.splitlines() == [expected]


def test_an_error_in_a_stack_has_its_place_in_own(project: Path) -> None:
    change(move(project, "dev"), "min: 1, max: 3", "min: 4, max: 3")
    (found,) = problems_of(read_stack, project, "dev")
    assert re.match(r"own/Pulumi\.dev\.yaml:\d+:\d+: gpu-fleet:services\.chat\.pools\.l4\.min: must be at most", found)
    assert [str(p) for p in stack_problems(project, "dev", read_library(project))] == [found]
    assert command(project, "validate").stderr.splitlines() == [found]
    assert command(project, "validate", "--stack", "dev").stderr.splitlines() == [found]
    path = str(project / "own/Pulumi.dev.yaml")
    assert command(project, "validate", path).stderr.splitlines() == [found]
    assert problems_of(read_engine, project, *engine(project, "dev")) == [found]


def engine(project: Path, stack: str) -> tuple[Any, str, str, str]:
    """What the program gets from the engine that was given `--config-file`."""
    config = pulumi_config(project, stack)
    yaml = YAML(typ="safe")

    def get_object(key: str) -> Any:
        text = config.get(f"gpu-fleet:{key}")
        return None if text is None else yaml.load(text)

    return get_object, config["aws:region"], stack, "gpu-fleet"


def test_a_key_that_the_program_never_asks_for_has_its_place_in_own(project: Path) -> None:
    path = move(project, "dev")
    path.write_text(path.read_text() + "  gpu-fleet:scalar: {memory_mb: 128}\n")
    (found,) = problems_of(read_engine, project, *engine(project, "dev"))
    assert re.fullmatch(r"own/Pulumi\.dev\.yaml:\d+:3: gpu-fleet:scalar: unknown key; did you mean scaler\?", found)


def test_an_update_without_config_file_names_the_option(project: Path) -> None:
    move(project, "dev")
    expected = (
        "own/Pulumi.dev.yaml: the engine has not read this file; "
        "give pulumi the option --config-file own/Pulumi.dev.yaml"
    )
    assert problems_of(read_engine, project, lambda _: None, None, "dev", "gpu-fleet") == [expected]
    assert problems_of(read_engine, project, lambda _: None, "us-east-1", "dev", "gpu-fleet") == [expected]


def test_a_config_file_elsewhere_keeps_the_errors_of_the_engine(project: Path) -> None:
    path = move(project, "dev")
    get_object, region, *_ = engine(project, "dev")
    path.rename(project / "elsewhere.yaml")
    (project / "own/policies/mine.yaml").write_text(POLICY.replace("model", "modell"))
    found = problems_of(read_engine, project, get_object, f"{region}x", "dev", "gpu-fleet")
    assert "own/policies/mine.yaml:1:1: modell: unknown key; did you mean model?" in found
    assert not any("no such stack file" in problem for problem in found)
    error = DocumentError(read_config(get_object, f"{region}x", "dev").problems)
    (project / "own/policies/mine.yaml").unlink()
    assert placed(error, project, "dev").problems == error.problems
    assert str(error).startswith("Pulumi.dev.yaml: aws:region: must be a region like us-east-1")


# ---- what replaces what


def test_own_policies_join_the_shipped_ones_and_replace_those_of_the_same_name(project: Path) -> None:
    (project / "own/policies/chat.yaml").write_text(POLICY)
    (project / "own/policies/mine.yaml").write_text(POLICY)
    library = read_library(project)
    assert sorted(library.policies) == ["batch", "chat", "mine", "training"]
    assert library.policies["chat"] == library.policies["mine"]
    assert library.documents["chat"].file == "own/policies/chat.yaml"
    assert library_files(project)[2] == "own/policies/chat.yaml"


def test_an_own_catalog_replaces_the_shipped_one_as_a_whole(project: Path) -> None:
    text = (project / "policies/catalog.yaml").read_text()
    (project / "own/policies/catalog.yaml").write_text(text.replace("g6.xlarge:", "g6.4xlarge:"))
    assert "g6.xlarge" not in read_library(project).catalog.types
    lines = command(project, "validate", "--stack", "dev").stderr.splitlines()
    assert any("pools.l4.types[0]: must be a type of catalog.yaml" in line for line in lines)
    (project / "own/policies/catalog.yaml").write_text("types: {}\n")
    assert "own/policies/catalog.yaml:1:1: quotas: is missing" in problems_of(read_library, project)


def test_a_policy_is_found_by_name_in_either_place(project: Path) -> None:
    (project / "own/policies/mine.yaml").write_text(POLICY)
    assert policy_library(project, "mine")[1] == "mine"
    assert policy_file(project, "mine") == "own/policies/mine.yaml"
    assert policy_file(project, "chat") == "policies/chat.yaml"
    expected = ["policies/nope.yaml: no such policy; there is batch, chat, mine, training"]
    assert problems_of(policy_library, project, "nope") == expected
    assert problems_of(policy_file, project, "catalog")[0].startswith("policies/catalog.yaml: no such policy")


def test_a_policy_given_by_its_path_replaces_the_own_one(project: Path) -> None:
    (project / "own/policies/chat.yaml").write_text(POLICY)
    library, name = policy_library(project, str(project / "policies/chat.yaml"))
    assert library.policies[name].description != read_library(project).policies["chat"].description


def test_stacks_are_found_in_either_place(project: Path) -> None:
    before = read_stack(project, "dev")[0]
    move(project, "dev")
    assert stack_names(project) == ["dev", "local", "prod"]
    assert find_stack_file(project, "dev") == "own/Pulumi.dev.yaml"
    assert find_stack_file(project, "prod") == "Pulumi.prod.yaml"
    assert (stack_name("own/Pulumi.dev.yaml"), stack_name("Pulumi.yaml")) == ("dev", None)
    settings, document = read_stack(project, "dev")
    assert settings == before
    assert document.file == "own/Pulumi.dev.yaml"
    settings, services = read_engine(project, *engine(project, "dev"))
    assert settings == before
    assert [service.name for service in services] == ["chat"]


def test_the_folder_may_be_a_link_to_one_elsewhere(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    move(project, "dev")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "mine"
    (project / "own").rename(elsewhere)
    (project / "own").symlink_to(elsewhere)
    (elsewhere / "policies/mine.yaml").write_text(POLICY)
    assert policy_file(project, "mine") == "own/policies/mine.yaml"
    assert read_stack(project, "dev")[1].file == "own/Pulumi.dev.yaml"
    assert command(project, "validate").exit_code == 0


# ---- commands


def test_validate_names_the_files_of_both_places(project: Path) -> None:
    (project / "own/policies/mine.yaml").write_text(POLICY)
    move(project, "dev")
    result = command(project, "validate")
    assert result.exit_code == 0, result.stderr
    assert "no errors in 9 files" in result.stdout
    assert "own/policies/mine.yaml" in result.stdout
    assert "own/Pulumi.dev.yaml" in result.stdout


def test_the_cases_of_own_policies_run_and_may_name_own_stacks(project: Path) -> None:
    move(project, "dev")
    (project / "own/policies/mine.yaml").write_text(
        POLICY + "cases:\n  - name: it stays\n    given: {stack: dev, pools: {l4: {ready: 2, load_percent: 40}}}\n"
        '    expect: {total_desired: ">=1"}\n'
    )
    result = command(project, "test")
    assert result.exit_code == 0, result.stdout
    assert "own/policies/mine.yaml:4: it stays" in result.stdout
    assert "in 4 policies, 0 failed" in result.stdout


def test_the_docs_commands_make_files_that_validate_and_point_to_the_schemas(project: Path, root: Path) -> None:
    shutil.rmtree(project / "own")
    page = (root / "docs/own.md").read_text()
    block = page[page.index("mkdir -p own") :].partition(".venv")[0]
    subprocess.run(["bash", "-euc", block], cwd=project, check=True)
    files = sorted(project.glob("own/**/*.yaml"))
    assert [str(path.relative_to(project)) for path in files] == [
        "own/Pulumi.staging.yaml", "own/policies/support.yaml",
    ]  # fmt: skip
    for path in files:
        first = path.read_text().splitlines()[0]
        assert f"\n{first}\n" in page
        assert (path.parent / first.rpartition("=")[2]).is_file(), path
    assert command(project, "validate").exit_code == 0


def test_git_does_not_track_the_folder(root: Path) -> None:
    """Without a slash at the end the line also covers a link to a folder elsewhere."""
    assert "/own" in (root / ".gitignore").read_text().splitlines()
