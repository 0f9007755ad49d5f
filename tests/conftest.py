"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# No deadline: the time of an example depends on the machine. Each run has the same examples, so that a failure comes
# from the change; HYPOTHESIS_PROFILE=search looks for new ones.
hypothesis.settings.register_profile("project", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "project"))

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the project's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real traces and profiles, beside the project or named by GPU_FLEET_SHARED, or skip."""
    folder = Path(os.environ.get("GPU_FLEET_SHARED") or ROOT.parent / "shared")
    if not (folder / "traces").is_dir():
        pytest.skip("needs the recorded traces (a folder `shared` beside the project, or GPU_FLEET_SHARED)")
    return folder
