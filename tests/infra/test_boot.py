"""The boot script, run for real below a folder: secrets, failures, and what is started."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.user_data import BootSettings, render_script
from tests.infra.instance_world import LOG_GROUP, InstanceWorld, instance_world

ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:token-AbCdEf"
PLAIN = BootSettings("us-east-1", "vllm/vllm-openai:v0.11.0", LOG_GROUP, 900)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[InstanceWorld]:
    """An instance with systemd's folder, and with programs that the AMI has."""
    with instance_world(tmp_path) as world:
        for folder in ("etc/systemd/system", "var/log", "tmp"):
            (tmp_path / folder).mkdir(parents=True)
        for name, body in {
            "sleep": f'echo "$1" >> {tmp_path}/slept',
            "curl": "exit 0",
            "dpkg": "exit 0",
            "python3": f'exec {sys.executable} "$@"',
        }.items():
            (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
            (tmp_path / name).chmod(0o755)
        yield world


def secret(instance: InstanceWorld, **value: str | bytes) -> str:
    return instance.cloud.client("secretsmanager").create_secret(Name="token", **value)["ARN"]


def boot(instance: InstanceWorld, settings: BootSettings) -> subprocess.CompletedProcess[str]:
    """Run the script with everything that it writes below the folder."""
    script = re.sub(r"(?<![\w./])/(?=(?:etc|opt|var/log|var/lib|tmp)/)", f"{instance.folder}/", render_script(settings))
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, timeout=60, env=instance.environment
    )


def container_environment(instance: InstanceWorld) -> str:
    return (instance.folder / "etc/gpu-fleet/container.env").read_text()


def started(instance: InstanceWorld) -> list[str]:
    return [call for call in instance.calls if call.startswith("systemctl") and "engine" in call]


def test_a_boot_starts_the_units_now_and_after_a_reboot(instance: InstanceWorld) -> None:
    done = boot(instance, replace(PLAIN, secrets={"HF_TOKEN": secret(instance, SecretString="s3 cr$t")}))
    assert done.returncode == 0, done.stdout
    assert container_environment(instance) == "\nHF_TOKEN=s3 cr$t\n"
    units = "engine gpu-fleet-metrics gpu-fleet-lifecycle"
    assert started(instance) == [
        f"systemctl enable gpu-fleet-disk {units} -> 0",
        f"systemctl start --no-block {units} -> 0",
    ]
    calls = [call for call in instance.calls if call.startswith("systemctl")]
    # Docker is stopped before its folders move, and starts with the engine.
    assert (
        calls.index("systemctl stop docker.socket docker.service containerd.service -> 0")
        < calls.index("systemctl start gpu-fleet-disk -> 0")
        < calls.index(f"systemctl start --no-block {units} -> 0")
    )
    for name in units.split():
        unit = (instance.folder / f"etc/systemd/system/{name}.service").read_text()
        assert unit.endswith("[Install]\nWantedBy=multi-user.target\n")
    assert instance.actions() == []


def test_the_units_run_what_the_boot_wrote(instance: InstanceWorld) -> None:
    boot(instance, PLAIN)
    unit = (instance.folder / "etc/systemd/system/gpu-fleet-lifecycle.service").read_text()
    assert f"Environment=PYTHONPATH={instance.folder}/opt/gpu-fleet\n" in unit
    assert "ExecStart=/usr/bin/python3 -m node lifecycle\n" in unit
    done = subprocess.run(
        [sys.executable, "-c", "import node.__main__; print(node.__file__)"],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": f"{instance.folder}/opt/gpu-fleet"},
    )  # fmt: skip
    assert done.stdout == f"{instance.folder}/opt/gpu-fleet/node/__init__.py\n"


def test_a_secret_that_is_refused_at_first_is_read_again(instance: InstanceWorld) -> None:
    """The role's rights take some seconds to reach every endpoint, and calls are throttled."""
    arn = secret(instance, SecretString="s3cret")
    instance.refused["get-secret-value"] = 3
    assert boot(instance, replace(PLAIN, secrets={"HF_TOKEN": arn})).returncode == 0
    assert container_environment(instance) == "\nHF_TOKEN=s3cret\n"
    assert (instance.folder / "slept").read_text().split() == ["2", "4", "8"]


def test_a_secret_that_is_never_readable_fails_the_boot(instance: InstanceWorld) -> None:
    """An engine without its API key would serve everybody."""
    done = boot(instance, replace(PLAIN, secrets={"VLLM_API_KEY": ARN}))
    assert done.returncode == 1
    assert "VLLM_API_KEY" not in container_environment(instance)
    assert started(instance) == ["systemctl --no-block stop engine -> 0"]
    assert instance.actions() == ["complete-lifecycle-action model-answers ABANDON"]
    (event,) = instance.log()
    assert event["abandoned"] == f"boot: secret {ARN} for VLLM_API_KEY cannot be read"
    assert sum(map(int, (instance.folder / "slept").read_text().split())) == 126
    instance.pass_time(200)
    assert instance.state == "gone"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"SecretBinary": b"\x00\x01"}, "has no text"),
        ({"SecretString": "a\nb"}, "has several lines, which Docker's file of variables cannot hold"),
    ],
)
def test_a_secret_that_no_variable_can_hold_fails_the_boot(
    instance: InstanceWorld, value: dict[str, str | bytes], why: str
) -> None:
    arn = secret(instance, **value)
    assert boot(instance, replace(PLAIN, secrets={"HF_TOKEN": arn})).returncode == 1
    assert instance.log()[0]["abandoned"] == f"boot: secret {arn} for HF_TOKEN {why}"
    assert "HF_TOKEN" not in container_environment(instance)


def test_any_other_failure_of_the_script_gives_the_launch_up(instance: InstanceWorld) -> None:
    (instance.folder / "chmod").write_text("#!/bin/bash\necho 'No space left on device'; exit 1\n")
    (instance.folder / "chmod").chmod(0o755)
    done = boot(instance, PLAIN)
    assert done.returncode == 1
    assert "No space left on device" in done.stdout + (instance.folder / "var/log/gpu-fleet-boot.log").read_text()
    assert instance.actions() == ["complete-lifecycle-action model-answers ABANDON"]
    assert "boot: failed: chmod" in instance.log()[0]["abandoned"]


def test_giving_up_waits_until_aws_waits_for_the_hook(instance: InstanceWorld) -> None:
    instance.refused["complete-lifecycle-action"] = 4
    boot(instance, replace(PLAIN, secrets={"HF_TOKEN": ARN}))
    assert instance.actions() == ["complete-lifecycle-action model-answers ABANDON"]


def test_a_boot_without_the_agent_goes_on(instance: InstanceWorld) -> None:
    done = boot(instance, PLAIN)
    assert "no CloudWatch agent" in done.stdout + (instance.folder / "var/log/gpu-fleet-boot.log").read_text()
    assert done.returncode == 0


@pytest.mark.parametrize(("failures", "code"), [(0, 0), (3, 0), (99, 1)])
def test_a_registry_that_refuses_for_minutes_is_tried_again(instance: InstanceWorld, failures: int, code: int) -> None:
    """Docker Hub limits the pulls of an address."""
    boot(instance, PLAIN)
    tries = instance.folder / "tries"
    (instance.folder / "docker").write_text(
        f'#!/bin/bash\n[ "$1" = pull ] || exit 1\necho . >> {tries}\n[ "$(wc -l < {tries})" -gt {failures} ]\n'
    )
    done = subprocess.run(
        ["bash", str(instance.folder / "opt/gpu-fleet/pull.sh")], check=False, env=instance.environment
    )
    assert done.returncode == code
    assert len(tries.read_text().splitlines()) == min(failures + 1, 6)


ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


def pull(instance: InstanceWorld) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(instance.folder / "opt/gpu-fleet/pull.sh")],
        capture_output=True, text=True, check=False, env=instance.environment,
    )  # fmt: skip


def test_a_cached_image_is_pulled_from_ecr_and_its_engine_is_known_all_the_same(instance: InstanceWorld) -> None:
    boot(instance, replace(PLAIN, pulled_image=f"{ECR}/hub/vllm/vllm-openai:v0.11.0"))
    assert pull(instance).returncode == 0
    assert instance.calls[-1] == f"docker pull {ECR}/hub/vllm/vllm-openai:v0.11.0 -> 0"
    serve = (instance.folder / "opt/gpu-fleet/serve.sh").read_text()
    assert f" {ECR}/hub/vllm/vllm-openai:v0.11.0 \n" in serve
    assert "\nENGINE=vllm\n" in (instance.folder / "etc/gpu-fleet/node.env").read_text()


def test_a_refused_login_to_ecr_is_tried_again(instance: InstanceWorld) -> None:
    """The role's rights take some seconds to reach every endpoint."""
    boot(instance, replace(PLAIN, pulled_image=f"{ECR}/engine:1"))
    instance.refused["get-login-password"] = 2
    assert pull(instance).returncode == 0
    assert (instance.folder / "slept").read_text().split() == ["5", "10"]


def test_without_ecr_an_image_that_is_there_already_serves(instance: InstanceWorld) -> None:
    boot(instance, replace(PLAIN, pulled_image=f"{ECR}/engine:1"))
    instance.refused["get-login-password"] = 99
    instance.images = {f"{ECR}/engine:1"}
    assert pull(instance).returncode == 0
    instance.images = set()
    assert pull(instance).returncode == 1


URI = "s3://own-bucket/chat/"


def with_weights(instance: InstanceWorld, **files: bytes) -> None:
    s3 = instance.cloud.client("s3")
    s3.create_bucket(Bucket="own-bucket")
    for name, body in files.items():
        s3.put_object(Bucket="own-bucket", Key=f"chat/{name}", Body=body)
    s3.put_object(Bucket="own-bucket", Key="chat-large/other", Body=b"of another service")


def copy_weights(instance: InstanceWorld) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(instance.folder / "opt/gpu-fleet/weights.sh")],
        capture_output=True, text=True, check=False, env=instance.environment,
    )  # fmt: skip


def test_weights_are_copied_beside_the_pull_and_the_engine_waits_for_them(instance: InstanceWorld) -> None:
    with_weights(instance, config=b"{}", model=b"weights")
    assert boot(instance, replace(PLAIN, copied_weights=URI)).returncode == 0
    unit = (instance.folder / "etc/systemd/system/engine.service").read_text()
    assert "Requires=docker.service\nWants=gpu-fleet-weights.service\n[Service]\n" in unit
    assert "pull.sh\nExecStartPre=/usr/bin/systemctl start gpu-fleet-weights\nExecStart=" in unit
    unit = (instance.folder / "etc/systemd/system/gpu-fleet-weights.service").read_text()
    assert f"AWS_CONFIG_FILE={instance.folder}/etc/gpu-fleet/aws.config\n" in unit
    assert (
        (instance.folder / "etc/gpu-fleet/aws.config").read_text().startswith("[default]\nregion = us-east-1\ns3 =\n")
    )
    folder = instance.folder / "opt/models/weights"
    folder.mkdir(parents=True)
    (folder / "old").touch()
    instance.refused["sync"] = 2
    assert copy_weights(instance).returncode == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"config": b"{}", "model": b"weights"}
    assert (instance.folder / "slept").read_text().split() == ["5", "10"]
    assert "--volume" in (serve := (instance.folder / "opt/gpu-fleet/serve.sh").read_text())
    assert f"--volume {instance.folder}/opt/models/weights:/weights:ro " in serve


def test_a_folder_without_weights_is_said_and_not_waited_for(instance: InstanceWorld) -> None:
    with_weights(instance)
    boot(instance, replace(PLAIN, copied_weights=URI))
    done = copy_weights(instance)
    assert done.returncode == 1
    assert done.stdout == f"there are no weights at {URI}\n"
    assert not (instance.folder / "slept").exists()


def test_a_bucket_that_never_answers_fails_the_copy(instance: InstanceWorld) -> None:
    boot(instance, replace(PLAIN, copied_weights=URI))
    assert copy_weights(instance).returncode == 1
    assert (instance.folder / "slept").read_text().split() == ["5", "10", "20", "40", "80", "0"]


def test_without_weights_in_s3_nothing_is_copied(instance: InstanceWorld) -> None:
    boot(instance, PLAIN)
    assert not (instance.folder / "opt/gpu-fleet/weights.sh").exists()
    assert "gpu-fleet-weights" not in (instance.folder / "etc/systemd/system/engine.service").read_text()
    assert ":/weights" not in (instance.folder / "opt/gpu-fleet/serve.sh").read_text()


def test_the_boot_marks_the_ends_of_its_phases_in_their_order(instance: InstanceWorld) -> None:
    """The kernel started before the script did; the image is pulled after it."""
    marks = instance.folder / "var/lib/gpu-fleet"
    (instance.folder / "now").touch()  # by the real clock
    boot(instance, PLAIN)
    assert not (marks / "image").exists()
    pull = subprocess.run(
        ["bash", "-c", (instance.folder / "opt/gpu-fleet/pull.sh").read_text()],
        capture_output=True, text=True, check=False, timeout=60, env=instance.environment,
    )  # fmt: skip
    assert pull.returncode == 0, pull.stderr
    times = [(marks / mark).stat().st_mtime for mark in ("running", "agent", "image")]
    assert times[0] < (instance.folder / "now").stat().st_mtime < times[1] <= times[2]
    again = (marks / "image").stat().st_mtime_ns
    subprocess.run(
        ["bash", "-c", (instance.folder / "opt/gpu-fleet/pull.sh").read_text()], check=True, env=instance.environment
    )
    assert (marks / "image").stat().st_mtime_ns == again
