"""Fixtures for replays."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator

import pytest

from infra import package


@pytest.fixture(scope="module")
def small_package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The handler runs from the sources here: what the function's package holds is for tests/infra."""
    archive = tmp_path_factory.mktemp("package") / "scaler.zip"
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("lambdas/__init__.py", "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "build", lambda _root: archive)
        yield
