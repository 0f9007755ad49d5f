"""A moto server in its own process: lifelike, with AWS's refusals, in real time or faster.

    python tests/engine/serve.py --serve-moto PORT [--given ARN ...]

`--given` names a certificate or a web ACL that the stack refers to and does not create. The environment holds the
`Settings`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from gpu_fleet.emulator.clock import VirtualClock  # noqa: E402
from gpu_fleet.emulator.cloud_world import CloudWorld, InstanceChange, Location  # noqa: E402
from gpu_fleet.emulator.lifelike import lifelike  # noqa: E402

ENGINE_CHECK = Path(os.environ.get("GPU_FLEET_SHARED") or ROOT.parent / "shared") / "tools" / "engine-check"
"""Beside the project, or in the folder GPU_FLEET_SHARED."""

ACCOUNT = "123456789012"
VARIABLE = "ENGINE_TEST_CLOUD"
"""Environment variable with the settings."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How fast the cloud changes."""

    region: str = "us-east-1"
    boot_seconds: float = 0.0
    """From launch until the model answers, in the cloud's time."""
    drain_seconds: float = 0.0
    """From deregistration until the last request ends, in the cloud's time."""
    pace: float = 10.0
    """Seconds of the cloud per real second, for launches, drains, hooks and health checks."""
    changes: str = os.devnull
    """A file with one JSON line per change of an instance: `InstanceChange`, with its time in the cloud's seconds."""

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment that passes the settings to the server."""
        return {VARIABLE: json.dumps(asdict(self))}


def load_engine_check() -> Any:
    """Load engine-check as a module: its file has no extension that Python knows. Its `Cloud` starts this server."""
    loader = SourceFileLoader("engine_check", str(ENGINE_CHECK))
    module = module_from_spec(spec_from_loader("engine_check", loader))  # type: ignore[arg-type]
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode  # its folder is read-only
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    module.__file__ = __file__  # what Cloud starts with --serve-moto
    return module


def serve(port: int, given: Iterable[str], settings: Settings) -> None:
    """Serve until the parent ends. Handle one request at a time, and none while the cloud's time advances."""
    os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    check = load_engine_check()
    check.mend_more()
    world = CloudWorld(
        VirtualClock(time.time()), boot_seconds=settings.boot_seconds, drain_seconds=settings.drain_seconds
    )
    lock = threading.RLock()
    with lifelike(world, Location(ACCOUNT, settings.region)), Path(settings.changes).open("a") as changes:

        def write(change: InstanceChange) -> None:
            changes.write(json.dumps(asdict(change)) + "\n")
            changes.flush()

        world.watchers.append(write)
        for arn in given:
            check.stand_in(arn)
        for work in (_live(world, settings.pace, lock), _end_with(os.getppid())):
            threading.Thread(target=work, daemon=True).start()

        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import run_simple

        moto = DomainDispatcherApplication(create_backend_app)

        def application(environ: dict[str, Any], start_response: Any) -> Any:
            with lock:
                return moto(environ, start_response)

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        run_simple("127.0.0.1", port, application, threaded=True)


def _live(world: CloudWorld, pace: float, lock: threading.RLock) -> Callable[[], None]:
    def live() -> None:
        world_start, real_start = world.now, time.monotonic()
        while True:
            time.sleep(0.1)
            with lock:
                world.advance(world_start + pace * (time.monotonic() - real_start))

    return live


def _end_with(parent: int) -> Callable[[], None]:
    def end() -> None:
        while os.getppid() == parent:
            time.sleep(2)
        os._exit(0)

    return end


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve-moto", type=int, required=True, metavar="PORT")
    parser.add_argument("--given", action="append", default=[], metavar="ARN")
    parsed = parser.parse_args()
    serve(parsed.serve_moto, parsed.given, Settings(**json.loads(os.environ.get(VARIABLE, "{}"))))


if __name__ == "__main__":
    main()
