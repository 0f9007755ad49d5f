"""A moto server in a process of its own: moto's faults mended as engine-check mends them, AWS's refusals added by us.

    python tests/engine/serve.py --serve-moto PORT [--given ARN ...]

`--given` names a certificate or a web ACL that the stack refers to and does not make.
"""

from __future__ import annotations

import argparse
import os
import sys
import types
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from lab.cloud.lifelike.difference import Patches  # noqa: E402
from lab.cloud.lifelike.refusals import refuse  # noqa: E402

ENGINE_CHECK = Path(os.environ.get("GPU_FLEET_SHARED") or ROOT.parent / "shared") / "tools" / "engine-check"
"""Beside the project, or in the folder that GPU_FLEET_SHARED names."""


def load_engine_check() -> Any:
    """engine-check as a module, whose file has no ending that Python would know. Its `Cloud` starts this server."""
    loader = SourceFileLoader("engine_check", str(ENGINE_CHECK))
    module = module_from_spec(spec_from_loader("engine_check", loader))  # type: ignore[arg-type]
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode  # its folder is read-only
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    module.__file__ = __file__  # what Cloud starts with --serve-moto
    return module


def main() -> None:
    """Serve until the parent ends."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--serve-moto", type=int, required=True)
    arguments.add_argument("--given", action="append", default=[])
    given = arguments.parse_args()
    engine_check = load_engine_check()
    # engine-check imports a module of this name for its own refusals. Ours hold all of them, and more.
    ours: Any = types.ModuleType("aws_refusals")
    ours.apply = lambda: refuse(Patches())
    sys.modules["aws_refusals"] = ours
    engine_check.serve_moto(given.serve_moto, given.given)


if __name__ == "__main__":
    main()
