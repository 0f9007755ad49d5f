from __future__ import annotations

import os
from collections.abc import Iterator

# Before moto is imported: no catalogue of images (a second per test).
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")

import pytest

from gpu_fleet.config.library import Library
from gpu_fleet.config.yaml_files import read_library
from tests.operate.preflight.account import Account, an_account


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def account() -> Iterator[Account]:
    with an_account() as account:
        yield account


@pytest.fixture(scope="session")
def library(root) -> Library:
    return read_library(root)
