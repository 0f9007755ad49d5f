"""Filling a folder in S3: from a folder, from a hub, after a run that broke off."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from typer.testing import CliRunner

from gpu_fleet.cli.app import app
from gpu_fleet.config.model_weights import WeightsPlace
from gpu_fleet.operate.weights.fill import Filled, fill
from gpu_fleet.operate.weights.folder import folder_files
from gpu_fleet.operate.weights.hugging_face import hub_files
from gpu_fleet.operate.weights.model_file import WeightsError, served_files

BUCKET = "gpu-fleet-dev-weights-123456789012"
PLACE = WeightsPlace(BUCKET, "chat")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b"{}", "model-00001.safetensors": b"w" * 5000, "original/model.pth": b"p", "model.bin": b"b"}


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3", "us-east-1")
        client.create_bucket(Bucket=BUCKET)
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, body in FILES.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    (tmp_path / "model/.cache").mkdir()
    (tmp_path / "model/.cache/lock").touch()
    return tmp_path / "model"


@dataclass
class Hub:
    """Hugging Face: its API, and files behind a redirect to another host's storage."""

    url: str = ""
    cut_off: set[str] = field(default_factory=set)
    """Files of which only a part arrives."""
    served: list[str] = field(default_factory=list)
    token: str | None = None


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    world = Hub()

    class Web(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, _ = self.path.partition("?")
            if path.startswith("/storage/"):
                # Storage refuses a request with two kinds of credentials.
                self._send(FILES[path.removeprefix("/storage/")], path, 400 if self.headers["Authorization"] else 200)
            elif world.token and self.headers["Authorization"] != f"Bearer {world.token}":
                self.send_error(401)
            elif path == "/api/models/org/model/revision/main":
                siblings = [{"rfilename": name, "size": len(body)} for name, body in FILES.items()]
                self._send(json.dumps({"sha": COMMIT, "siblings": siblings}).encode(), path)
            elif path.startswith(f"/org/model/resolve/{COMMIT}/"):
                self.send_response(302)
                self.send_header("Location", f"{world.url}/storage/{path.rpartition(f'{COMMIT}/')[2]}")
                self.end_headers()
            else:
                self.send_error(404)

        def _send(self, body: bytes, path: str, code: int = 200) -> None:
            name = path.removeprefix("/storage/")
            world.served.append(name)
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:100] if name in world.cut_off else body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        world.url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("HF_ENDPOINT", world.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield world
        server.shutdown()


def objects(s3: Any) -> dict[str, bytes]:
    found = s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return {each["Key"]: s3.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read() for each in found}


def run(s3: Any, files: Any, *, delete: bool = False, place: WeightsPlace = PLACE) -> tuple[Filled, dict[str, int]]:
    counted: dict[str, int] = {}
    lock = threading.Lock()

    def done(path: str, count: int) -> None:
        with lock:
            counted[path] = counted.get(path, 0) + count

    return fill(s3, place, files, delete=delete, done=done), counted


WANTED = {"chat/config.json": FILES["config.json"], "chat/model-00001.safetensors": FILES["model-00001.safetensors"]}


def test_a_folders_safetensors_are_sent_and_not_the_same_weights_again(s3: Any, folder: Path) -> None:
    filled, counted = run(s3, served_files(folder_files(folder)))
    assert filled == Filled(sent=2, unchanged=0, deleted=0)
    assert objects(s3) == WANTED
    assert counted == {"config.json": 2, "model-00001.safetensors": 5000}


def test_weights_in_another_format_alone_are_sent(s3: Any, folder: Path) -> None:
    (folder / "model-00001.safetensors").unlink()
    paths = {file.path for file in served_files(folder_files(folder))}
    assert paths == {"config.json", "original/model.pth", "model.bin"}


def test_what_is_there_is_not_sent_again_until_it_changes(s3: Any, folder: Path) -> None:
    run(s3, served_files(folder_files(folder)))
    filled, counted = run(s3, served_files(folder_files(folder)))
    assert filled == Filled(sent=0, unchanged=2, deleted=0)
    assert sum(counted.values()) == 5002
    (folder / "config.json").write_bytes(b"[]")
    assert run(s3, served_files(folder_files(folder)))[0] == Filled(sent=1, unchanged=1, deleted=0)


def test_other_files_are_kept_unless_one_says_so(s3: Any, folder: Path) -> None:
    s3.put_object(Bucket=BUCKET, Key="chat/old.safetensors", Body=b"old")
    s3.put_object(Bucket=BUCKET, Key="chat-large/config.json", Body=b"of another service")
    with pytest.raises(WeightsError, match=r"holds 1 other files, like chat/old.safetensors; allow --delete"):
        run(s3, served_files(folder_files(folder)))
    assert run(s3, served_files(folder_files(folder)), delete=True)[0].deleted == 1
    assert objects(s3) == {**WANTED, "chat-large/config.json": b"of another service"}


def test_a_bucket_that_is_not_there_is_said(s3: Any, folder: Path) -> None:
    with pytest.raises(WeightsError, match="there is no bucket none: run pulumi up first"):
        run(s3, folder_files(folder), place=WeightsPlace("none", "chat"))


def test_a_model_of_hugging_face_goes_to_s3_without_its_token_to_storage(
    s3: Any, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    files = served_files(hub_files("org/model"))
    assert run(s3, files)[0].sent == 2
    assert objects(s3) == WANTED
    assert run(s3, files)[0].unchanged == 2


def test_a_gated_model_asks_for_the_token(hub: Hub) -> None:
    hub.token = "hf_secret"
    with pytest.raises(
        WeightsError, match="org/model at main: Hugging Face answers 401; a gated or private model needs"
    ):
        hub_files("org/model")


def test_a_file_that_breaks_off_is_not_left_in_s3_and_the_next_run_goes_on(s3: Any, hub: Hub) -> None:
    hub.cut_off = {"model-00001.safetensors"}
    files = served_files(hub_files("org/model"))
    with pytest.raises(WeightsError, match=r"model-00001\.safetensors broke off"):
        run(s3, files)
    assert "chat/model-00001.safetensors" not in objects(s3)
    hub.cut_off = set()
    assert run(s3, files)[0] == Filled(sent=1, unchanged=1, deleted=0)


def test_an_endpoint_that_is_no_url_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    with pytest.raises(WeightsError, match="HF_ENDPOINT: must be a URL"):
        hub_files("org/model")


STACK = """\
config:
  aws:region: us-east-1
  gpu-fleet:network: {zones: [us-east-1a, us-east-1b]}
  gpu-fleet:load_balancer: {internal: true}
  gpu-fleet:services:
    chat:
      policy: chat
      paths: ["/v1/*"]
      priority: 100
      container: {image: "vllm/vllm-openai:v0.29.0", args: [org/model]}
      boot: {weights: {}}
      pools: {l4: {types: [g6.xlarge], min: 0, max: 1}}
    plain:
      policy: chat
      paths: ["/v2/*"]
      priority: 200
      container: {image: "vllm/vllm-openai:v0.29.0"}
      pools: {l4: {types: [g6.xlarge], min: 0, max: 1}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    (tmp_path / "project/Pulumi.dev.yaml").write_text(STACK)
    return tmp_path / "project"


def command(project: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["weights", "--root", str(project), "--stack", "dev", *arguments])


def test_the_command_fills_the_services_folder(s3: Any, project: Path, folder: Path) -> None:
    result = command(project, "--service", "chat", str(folder))
    assert result.exit_code == 0, result.output
    assert result.stdout == f"s3://{BUCKET}/chat/: 2 files, 0.0 GiB; 2 sent, 0 unchanged, 0 others deleted\n"
    assert objects(s3) == WANTED


def test_the_command_takes_a_model_of_hugging_face(s3: Any, project: Path, hub: Hub) -> None:
    assert command(project, "--service", "chat", "org/model").exit_code == 0
    assert objects(s3) == WANTED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--service", "chatt", "org/model"], "--service: did you mean chat? (got chatt)"),
        (["--service", "plain", "org/model"], "--service: must have boot.weights in its stack's file (got plain)"),
        (["--service", "chat", "org/other"], "org/other at main: Hugging Face answers 404"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(s3: Any, project: Path, hub: Hub, arguments: list[str], message: str) -> None:
    result = command(project, *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
