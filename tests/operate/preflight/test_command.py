"""The command: exit codes, table, JSON, and the rights that the docs list."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from botocore.client import BaseClient
from policy_sentry.querying.actions import get_action_data
from rich.console import Console
from typer.testing import CliRunner

from gpu_fleet.cli.app import app
from gpu_fleet.cli.preflight import _table
from gpu_fleet.config.settings import ScalerSettings
from gpu_fleet.config.stack_file import parse_stack
from gpu_fleet.emulator.faults import api_call_will_fail
from gpu_fleet.operate.preflight.all_checks import plan
from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.check import run
from gpu_fleet.operate.preflight.stack_needs import Stack
from tests.docs.pages import blocks
from tests.operate.preflight.account import REGION, SESSION, Account, an_account
from tests.operate.preflight.stacks import EXISTING_NETWORK, FILE, NEW_NETWORK, run_checks, stack_text

runner = CliRunner()


@pytest.fixture
def project(tmp_path: Path, root: Path, account: Account) -> Path:
    shutil.copytree(root / "policies", tmp_path / "policies")
    for stack in ("local", "vertical"):  # the policies' cases refer to them
        shutil.copy(root / f"Pulumi.{stack}.yaml", tmp_path)
    (tmp_path / FILE).write_text(stack_text(account))
    return tmp_path


def preflight(project: Path, *arguments: str) -> Any:
    return runner.invoke(app, ["preflight", "--root", str(project), "--stack", "test", *arguments])


def test_all_ok_exits_with_0(project):
    result = preflight(project)
    assert result.exit_code == 0, result.output
    assert "0 wrong, 0 not known" in result.stdout
    assert "Traceback" not in result.output


def test_something_wrong_exits_with_1_and_names_its_place(project, account):
    account.root_gib = 300
    result = preflight(project)
    assert result.exit_code == 1
    problem = "root volume: must be at least 300 GiB, the size of the AMI's root (got 200)"
    assert f"{FILE}:23:9: gpu-fleet:services.chat.pools.l4.volume_gib: {problem}" in result.stdout.splitlines()


def test_something_not_known_exits_with_3_and_names_the_missing_right(project):
    with api_call_will_fail("acm", "DescribeCertificate", "AccessDeniedException", times=None, status=403):
        result = preflight(project)
    assert result.exit_code == 3
    assert "needs the right acm:DescribeCertificate" in result.stdout
    assert result.stdout.rstrip().endswith("missing rights: acm:DescribeCertificate")


def test_wrong_outranks_not_known(project, account):
    account.root_gib = 300
    with api_call_will_fail("acm", "DescribeCertificate", "AccessDeniedException", times=None, status=403):
        assert preflight(project).exit_code == 1


def test_wrong_yaml_exits_with_2_without_a_call_to_aws(project):
    path = project / FILE
    path.write_text(path.read_text().replace("max: 10", "max: -1"))
    with mock.patch.object(BaseClient, "_make_api_call", side_effect=AssertionError("AWS was called")):
        result = preflight(project)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert f"{FILE}:23:54: gpu-fleet:services.chat.pools.l4.max: must be at least 1 (got -1)" in result.stderr
    validated = runner.invoke(app, ["validate", "--root", str(project), "--stack", "test"])
    assert result.stderr == validated.stderr


def test_an_unknown_stack_exits_with_2(project):
    result = runner.invoke(app, ["preflight", "--root", str(project), "--stack", "nowhere"])
    assert result.exit_code == 2
    assert "Pulumi.nowhere.yaml: no such stack file; there is local, test" in result.stderr


def test_a_wrong_call_exits_with_2():
    assert runner.invoke(app, ["preflight"]).exit_code == 2
    assert runner.invoke(app, ["preflight", "--stack", "dev", "--format", "xml"]).exit_code == 2


def test_json_has_every_row(project, account):
    account.root_gib = 300
    with api_call_will_fail("acm", "DescribeCertificate", "AccessDeniedException", times=None, status=403):
        result = preflight(project, "--format", "json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert (answer["stack"], answer["region"]) == ("test", REGION)
    rows = {(row["check"], row["subject"]): row for row in answer["rows"]}
    assert len(rows) == len(answer["rows"]) == sum(answer["counts"].values())
    assert answer["counts"]["wrong"] == 2
    assert answer["counts"]["not known"] == 1
    line = 1 + next(i for i, text in enumerate((project / FILE).read_text().splitlines()) if "l4:" in text)
    assert rows["root volume", "chat/l4"] == {
        "check": "root volume",
        "subject": "chat/l4",
        "status": "wrong",
        "text": "must be at least 300 GiB, the size of the AMI's root (got 200)",
        "missing_right": None,
        "key": "gpu-fleet:services.chat.pools.l4.volume_gib",
        "place": {"file": FILE, "line": line, "column": 9},
    }
    refused = next(row for row in answer["rows"] if row["status"] == "not known")
    assert refused["missing_right"] == "acm:DescribeCertificate"


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_and_drops_no_word(account, library, width):
    account.root_gib = 300
    rows = run_checks(library, stack_text(account))
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(_table(rows))
    printed = console.file.getvalue()
    assert max(map(len, printed.splitlines())) <= width
    assert "…" not in printed
    letters = "".join(printed.split())
    for row in rows:
        assert all(word in letters for word in row.finding.text.split() if len(word) < 12)


# ---- rights -------------------------------------------------------------------------------------------------------


class Reserving(ScalerSettings):
    """A scaler with a reservation."""

    reserved_concurrency: int | None = 1


@pytest.fixture
def called_actions(library) -> set[str]:
    """Return the actions of all calls for stacks that have everything there is a check for."""
    calls: set[str] = set()
    original = BaseClient._make_api_call

    def call(self: Any, operation: str, parameters: Any) -> Any:
        calls.add(f"{self.meta.service_model.signing_name}:{operation}")
        return original(self, operation, parameters)

    with an_account() as account:
        account.ebs_key = account.key()
        account.network()
        account.no_route("private_table")
        account.endpoints()
        with mock.patch.object(BaseClient, "_make_api_call", call):
            for network in (NEW_NETWORK, EXISTING_NETWORK):
                settings, document = parse_stack(stack_text(account, network), FILE)
                settings = settings.model_copy(update={"scaler": Reserving()})
                run(plan(Stack("test", settings, library)), ReadOnlyAws(REGION, SESSION), document)
    return calls


def documented() -> list[str]:
    (block,) = blocks("json", "preflight")
    (statement,) = json.loads(block.text)["Statement"]
    return statement["Action"]


def test_the_documented_rights_are_those_of_the_calls(called_actions):
    assert documented() == sorted(called_actions)


def test_the_documented_rights_only_read():
    for action in documented():
        service, _, name = action.partition(":")
        levels = {found["access_level"] for found in get_action_data(service, name)[service]}
        assert levels <= {"Read", "List"}, action
