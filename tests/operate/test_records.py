from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gpu_fleet.cli.app import app
from gpu_fleet.config.composition import services
from gpu_fleet.config.document import DocumentError
from gpu_fleet.config.stack_file import read_stack
from gpu_fleet.config.yaml_files import read_library
from gpu_fleet.operate.records import read_records
from gpu_fleet.scaling import record
from gpu_fleet.scaling.decision import Decision, PoolTarget, Reason, Refresh, Signals, Step
from gpu_fleet.scaling.observation import Instance, Observation, Phase, PoolObservation, Reading
from gpu_fleet.scaling.record import Record
from gpu_fleet.scaling.state import State

run = CliRunner()
NOW = 1_767_787_200.0


@pytest.fixture(scope="module")
def recorded(root: Path) -> Record:
    """Four ready L4 of the local stack under 3 requests a second, with a decision for five."""
    (service,) = services(read_stack(root, "local")[0], read_library(root))
    instances = tuple(
        Instance(f"i-{i}", "g6.xlarge", "us-east-1a", Phase.READY, NOW - 9000, ready_at=NOW - 8700) for i in range(4)
    )
    empty = PoolObservation(desired=0, min_size=0, max_size=4, weight=0)
    seen = Observation(
        pools={
            "l4": PoolObservation(
                desired=4, min_size=1, max_size=40, weight=100, instances=instances, load=Reading(60, NOW),
                running=Reading(60, NOW), waiting=Reading(0, NOW), rate_rps=Reading(3, NOW),
            ),
            "l40s": empty,
            "h100": empty,
        },
        arrivals_rps=Reading(3, NOW),
    )  # fmt: skip
    decision = Decision(
        targets={"l4": PoolTarget(5, 100), "l40s": PoolTarget(0, 0), "h100": PoolTarget(0, 0)},
        reasons=(Reason(Step.SIZING, "sized", "Five instances carry 3 requests per second [as it were]."),),
        signals=Signals(1.5, 0.4, 0.5, 3, 3, 4, usd_per_hour=4.02),
        state=State(at=NOW),
    )
    return Record(service, seen, State(at=NOW - 60, since=NOW - 7200), NOW, decision)


@pytest.fixture
def written(tmp_path: Path, recorded: Record) -> Path:
    """The record alone in a file."""
    path = tmp_path / "record.json"
    path.write_text(record.dump(recorded))
    return path


def lines(path: Path, *values: Any) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def test_a_record_is_read_from_a_file_a_line_or_a_log_line(tmp_path: Path, recorded: Record, written: Path) -> None:
    bare = json.loads(record.dump(recorded))
    assert read_records(written) == [recorded]
    log = lines(tmp_path / "log", {"message": "start"}, {"message": "decision", "record": bare}, bare)
    assert read_records(log) == [recorded, recorded]


def test_the_output_of_the_aws_commands_is_read(tmp_path: Path, recorded: Record) -> None:
    message = json.dumps({"message": "decision", "record": json.loads(record.dump(recorded))})
    tail = tmp_path / "tail"
    tail.write_text(f"2026-01-07T12:00:00 START RequestId: 1\n2026-01-07T12:00:01 {message}\n")
    assert read_records(tail) == [recorded]
    events = tmp_path / "events.json"
    events.write_text(json.dumps({"events": [{"message": "START"}, {"message": message}]}, indent=2))
    assert read_records(events) == [recorded]


def test_a_pretty_printed_record_is_one_too(tmp_path: Path, recorded: Record) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(json.loads(record.dump(recorded)), indent=2))
    assert read_records(path) == [recorded]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no decision record"),
        ('{"a": 1}\n', "holds no decision record"),
        ('{"a": 1}\n12:00 {"cut off\n', ":2:7: must be one JSON object to a line"),
        ("[1, 2]\n", "holds no decision record"),
        ('{"events": [1, {"message": "START"}]}', "holds no decision record"),
        ('{"decision": {}}\n', ":1:1: must be a decision record: not a Record"),
        ('{"record_lacks": ["everything"]}\n', ":1:1: holds no record: it was too long for the log"),
    ],
)
def test_a_file_without_a_record_is_a_clear_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "log"
    path.write_text(text)
    with pytest.raises(DocumentError) as caught:
        read_records(path)
    assert message in str(caught.value)
    result = run.invoke(app, ["explain", str(path)])
    assert result.exit_code == 1
    assert message in result.stderr


def test_explain_prints_the_changes_and_every_sentence(written: Path) -> None:
    result = run.invoke(app, ["explain", str(written)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "2026-01-07 12:00:00 UTC  chat",
        "  l4: desired 4 -> 5, weight 100",
        "  l40s: desired 0, weight 0",
        "  h100: desired 0, weight 0",
        "  sizing: Five instances carry 3 requests per second [as it were]. [sized]",
    ]


def test_explain_shows_a_hold_a_refresh_and_what_leaves(tmp_path: Path, recorded: Record) -> None:
    from dataclasses import replace

    decision = replace(
        recorded.decision,
        held=True,
        targets={**recorded.decision.targets, "l4": PoolTarget(3, 100, take=("i-1",))},
        refresh=Refresh("l4", ("g6.2xlarge",)),
    )
    path = tmp_path / "record.json"
    path.write_text(record.dump(replace(recorded, decision=decision)))
    out = run.invoke(app, ["explain", str(path)]).stdout
    assert "chat, held" in out
    assert "l4: desired 4 -> 3, weight 100, takes i-1" in out
    assert "l4: rolls to g6.2xlarge" in out


def test_replay_decides_again_with_another_policy(written: Path, root: Path, tmp_path: Path) -> None:
    fixed = tmp_path / "floor.yaml"
    fixed.write_text("model: llama-3.1-8b-fp8\navailability: {min_instances: 9}\nforecast: {method: none}\n")
    result = run.invoke(app, ["replay", str(written), "--policy", str(fixed), "--root", str(root)])
    assert result.exit_code == 0, result.output
    rows = {cells[0]: cells[1:] for line in result.stdout.splitlines() if (cells := _cells(line))}
    assert rows["l4 desired"][:2] == ["4", "5"]
    total = sum(int(rows[f"{name} desired"][2]) for name in ("l4", "l40s", "h100"))
    assert total >= 9
    assert "Five instances carry" in result.stdout


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│┃ ").split("│")] if "│" in line else []


def test_replay_needs_a_policy_that_exists_and_fits(written: Path, root: Path, tmp_path: Path) -> None:
    result = run.invoke(app, ["replay", str(written), "--policy", "nope", "--root", str(root)])
    assert result.exit_code == 1
    assert "policies/nope.yaml: no such policy; there is batch, chat, chat-in-place, training" in result.stderr
    result = run.invoke(app, ["replay", str(written), "--policy", "training", "--root", str(root)])
    assert result.exit_code == 1
    assert "training.workload: must be inference, as the record's (got training)" in result.stderr
    assert run.invoke(app, ["replay", str(written), "--policy", "batch", "--root", str(root)]).exit_code == 0
    big = tmp_path / "big.yaml"
    big.write_text("model: llama-70b\n")
    result = run.invoke(app, ["replay", str(written), "--policy", str(big), "--root", str(root)])
    assert result.exit_code == 1
    assert "pools.l4.types.0: GPU memory must be at least" in result.stderr
