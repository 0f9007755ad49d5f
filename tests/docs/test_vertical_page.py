"""The YAML of docs/vertical.md works, and its figures agree with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gpu_fleet.cases import cases, run
from gpu_fleet.config.composition import pool
from gpu_fleet.config.document import parse
from gpu_fleet.config.fit import PoolPlan, plan_problems
from gpu_fleet.config.library import library
from gpu_fleet.config.settings import PoolSettings
from gpu_fleet.config.yaml_files import library_texts, read_library
from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.decision import Decision, PoolTarget, Signals
from gpu_fleet.scaling.in_place import consider
from gpu_fleet.scaling.observation import Instance, Observation, Phase, PoolObservation
from gpu_fleet.scaling.policy import Vertical, VerticalMethod
from gpu_fleet.scaling.service import Service
from tests.scaling.builders import remembered

NOW = 1_700_000_000.0
ROW = re.compile(
    r"^\| (\d+) \| (\d+) (\S+) \| (\d+) (\S+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| (\d+) \| (\d+) \|$", re.MULTILINE
)


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs/vertical.md").read_text(encoding="utf-8")


def block(page: str, name: str) -> str:
    found = re.search(rf"```yaml {name}\n(.*?)```", page, re.DOTALL)
    assert found
    return found[1]


def test_the_pages_policy_does_what_its_cases_say(root: Path, page: str) -> None:
    found = library({**library_texts(root), "policies/page.yaml": block(page, "policy")})

    def no_stack(name: str) -> None:
        raise AssertionError(name)

    written, problems = cases(found, ["page"], no_stack)  # type: ignore[arg-type]
    assert not problems
    assert len(written) == 3
    for case in written:
        outcome = run(case, decide)
        assert not outcome.mismatches, (case.name, outcome.mismatches)


def test_the_pages_pool_fits_its_policy(root: Path, page: str) -> None:
    found = library({**library_texts(root), "policies/page.yaml": block(page, "policy")})
    ((_, value),) = parse(block(page, "pool"), "docs/vertical.md").data.items()
    settings = PoolSettings.model_validate(value)
    plan = PoolPlan(settings.types, settings.min, settings.max, 0, None, settings.alternatives)
    assert plan_problems("page", {"gpu": plan}, found) == []


def test_the_pages_figures_are_those_of_the_code(root: Path, page: str) -> None:
    rows = ROW.findall(page)
    assert len(rows) == 4
    known = read_library(root)
    for rps, standing, old, count, new, saves, by_pools, in_place, pools_pay, in_place_pays in rows:
        ladder = PoolSettings(types=(old,), min=1, max=40, alternatives=((new,),))
        in_place_policy = known.policies["chat"].model_copy(
            update={"vertical": Vertical(method=VerticalMethod.IN_PLACE, minimum_stay_seconds=36000)}
        )
        only = pool("gpu", ladder, "chat", known)
        service = Service(name="chat", policy=in_place_policy, pools=(only,))
        nodes = tuple(Instance(f"i-{n}", old, "ab"[n % 2], Phase.READY, 0.0) for n in range(int(standing)))
        view = PoolObservation(len(nodes), 0, 200, 100, nodes, types=(old,))
        signals = Signals(None, None, None, None, None, float(rps))
        before = Decision({"gpu": PoolTarget(len(nodes), 100)}, (), signals, remembered(at=NOW, dispersion=1.0))
        reason = consider(service, Observation({"gpu": view}), before, NOW).reasons[-1]
        assert reason.code == "vertical.refresh"
        assert f"{count} {new} (" in reason.sentence
        assert f"{standing} {old} (" in reason.sentence
        saving, overlap = reason.numbers["saving_usd_per_hour"], reason.numbers["overlap_usd"]
        (other,) = only.alternatives
        moved = int(count) * other.on_demand_usd_per_hour * other.lead_seconds / 3600
        assert other.lead_seconds == 653
        printed = [float(value) for value in (saves, by_pools, in_place, pools_pay, in_place_pays)]
        computed = [saving, moved, overlap, 60 * moved / saving, 60 * overlap / saving]
        assert printed == [pytest.approx(value, abs=0.5 if i > 2 else 0.006) for i, value in enumerate(computed)]
