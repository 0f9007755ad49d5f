"""Any wrong value at any place of a file is reported, and nothing crashes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from gpu_fleet.config.library import collect
from gpu_fleet.config.own_files import stack_file_name
from gpu_fleet.config.yaml_files import library_texts
from infra.stack_problems import stack_problems

VALUES = st.sampled_from(
    [
        *(None, True, 0, -1, 7, 10**12, 1.5, "", "x", "a b", "é\n", "10.0.0.1/8", "arn:aws:sns:x"),
        *([], [[]], [1], ["a", "a"], {}, {"a": 1}, {"a": {"b": []}}),
    ]
)


def _items(data: Any) -> list[tuple[Any, Any]]:
    if isinstance(data, dict):
        return list(data.items())
    return list(enumerate(data)) if isinstance(data, list) else []


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and every item."""
    for key, value in _items(data):
        yield (*path, key)
        yield from places(value, (*path, key))


def spoil(data: Any, draw: st.DrawFn, times: int) -> Any:
    """The data with some values taken away or others in their place."""
    data = json.loads(json.dumps(data, default=str))
    for _ in range(times):
        path = draw(st.sampled_from(sorted(places(data), key=str)))
        below = data
        for part in path[:-1]:
            below = below[part]
        if draw(st.booleans()) and isinstance(below, dict):
            del below[path[-1]]
        else:
            below[path[-1]] = deepcopy(draw(VALUES))
        if not data:
            break
    return data


@settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_an_invalid_project_is_reported_and_never_crashes(
    root: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    texts = library_texts(root)
    name = data.draw(st.sampled_from([None, *sorted(texts)]))
    yaml = YAML(typ="safe")
    if name is not None:
        texts[name] = json.dumps(spoil(yaml.load(texts[name]), data.draw, data.draw(st.integers(1, 3))))
    whole = yaml.load((root / stack_file_name("prod")).read_text())
    spoilt = spoil(whole, data.draw, data.draw(st.integers(0, 4)))
    folder = tmp_path_factory.getbasetemp()
    (folder / stack_file_name("prod")).write_text(json.dumps(spoilt))
    library, problems = collect(texts)
    problems += stack_problems(folder, "prod", library, "gpu-fleet")
    assert all(problem.text for problem in problems)
