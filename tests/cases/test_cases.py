from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gpu_fleet.cases import NOW, Case, Given, cases, observation, run, within
from gpu_fleet.cli.app import app
from gpu_fleet.config.document import DocumentError, Problem
from gpu_fleet.config.library import Library, library
from gpu_fleet.config.stack_file import read_stack
from gpu_fleet.config.yaml_files import library_texts
from gpu_fleet.scaling.decision import Decision, PoolTarget, Reason, Signals, Step
from gpu_fleet.scaling.observation import Observation, Phase
from gpu_fleet.scaling.service import Service
from gpu_fleet.scaling.state import State

ONE_POOL = "pools: {l4: {types: [g6.xlarge], min: 1, max: 12, ready: 4, load_percent: 90}}"


def library_with(root: Path, text: str) -> Library:
    return library({**library_texts(root), "policies/mine.yaml": text})


def policy(given: str, expect: str = "{}", more: str = "") -> str:
    return (
        "model: llama-3.1-8b\nrequest: {input_tokens: 1155, output_tokens: 211}\n"
        "slo: {ttft_seconds: 2, tpot_seconds: 0.1}\n"
        f"{more}cases:\n  - name: one\n    given: {{{given}}}\n    expect: {expect}\n"
    )


def read(root: Path, given: str, expect: str = "{}", more: str = "") -> Case:
    found, problems = cases(
        library_with(root, policy(given, expect, more)), ["mine"], lambda name: read_stack(root, name)[0]
    )
    assert problems == []
    return found[0]


def wrong(root: Path, given: str, expect: str = "{}") -> list[str]:
    text = policy(given, expect)
    _, problems = cases(library_with(root, text), ["mine"], lambda name: read_stack(root, name)[0])
    return [str(problem).split(": ", 1)[1] for problem in problems]


class Deciding:
    """A decision made beforehand; records its calls."""

    def __init__(self, **changes: Any) -> None:
        self.calls: list[tuple[Service, Observation, State, float]] = []
        self.changes = changes

    def __call__(self, service: Service, observation: Observation, state: State, now: float) -> Decision:
        self.calls.append((service, observation, state, now))
        return replace(
            Decision(
                targets={"l4": PoolTarget(desired=6, weight=300, take=("a",))},
                reasons=(Reason(Step.SIZING, "sized", "Six instances carry it."),),
                signals=Signals(None, None, None, None, None, None, usd_per_hour=4.83),
                state=State(at=now),
            ),
            **self.changes,
        )


@pytest.mark.parametrize(
    "expect",
    [
        "{total_desired: 6}",
        '{total_desired: ">=5", usd_per_hour: "<5"}',
        '{pools: {l4: {desired: "5..6", weight: ">0", share_percent: 100, take: 1, protected: 0}}}',
        "{held: false, refresh: false, codes: [sized], without_codes: [held]}",
        "{}",
    ],
)
def test_a_decision_within_its_bounds_passes(root: Path, expect: str) -> None:
    outcome = run(read(root, ONE_POOL, expect), Deciding())
    assert outcome.passed, outcome.mismatches


@pytest.mark.parametrize(
    ("expect", "difference"),
    [
        ("{total_desired: 7}", "total_desired: wanted 7, got 6"),
        ('{pools: {l4: {desired: ">6"}}}', "pools.l4.desired: wanted >6, got 6"),
        ('{pools: {l4: {on_demand_base: ">=0"}}}', "pools.l4.on_demand_base: wanted >=0, got nothing"),
        ("{held: true}", "held: wanted true, got false"),
        ("{codes: [burst]}", "codes: wanted burst, got sized"),
        ("{without_codes: [sized]}", "without_codes: wanted no sized, got sized"),
        ('{usd_per_hour: "<4.83"}', "usd_per_hour: wanted <4.83, got 4.83"),
    ],
)
def test_each_unmet_expectation_is_one_mismatch(root: Path, expect: str, difference: str) -> None:
    outcome = run(read(root, ONE_POOL, expect), Deciding())
    assert [str(d) for d in outcome.mismatches] == [difference]


def test_a_pool_without_a_target_is_a_mismatch(root: Path) -> None:
    outcome = run(read(root, ONE_POOL, "{pools: {l4: {desired: 0}}}"), Deciding(targets={}))
    assert [str(d) for d in outcome.mismatches] == ["pools.l4: wanted a target, got none"]


@pytest.mark.parametrize(
    ("given_text", "expect", "problem"),
    [
        (ONE_POOL.replace("ready", "redy"), "{}", "cases[0].given.pools.l4.redy: unknown key; did you mean ready?"),
        (ONE_POOL, "{total: 1}", "cases[0].expect.total: unknown key; did you mean total_desired?"),
        (ONE_POOL, '{total_desired: "about 5"}', 'must be a number, a bound like ">=5", or a range like "5..8"'),
        (ONE_POOL, '{total_desired: ">=5..8"}', 'must be a number, a bound like ">=5", or a range like "5..8"'),
        (ONE_POOL, "{total_desired: true}", "cases[0].expect.total_desired: must be a text (got true)"),
        (
            ONE_POOL,
            "{pools: {l5: {desired: 1}}}",
            "cases[0].expect.pools.l5: must be a pool of the service; allowed: l4",
        ),
        (
            ONE_POOL + ", capacity_errors: [l40]",
            "{}",
            "capacity_errors[0]: must be a pool of the service; did you mean l4?",
        ),
        (ONE_POOL + ", missing: [lod]", "{}", "cases[0].given.missing[0]: must be one of load, arrivals"),
        (
            ONE_POOL + ", before: {pools: {l4: {redy: 1}}}",
            "{}",
            "before.pools.l4.redy: unknown key; did you mean ready?",
        ),
        (ONE_POOL.replace("g6.xlarge", "g6.xlrge"), "{}", "given.pools.l4.types[0]: must be a type of catalog.yaml"),
        (ONE_POOL.replace("min: 1", "min: 13"), "{}", "given.pools.l4.min: must be at most max, 12 (got 13)"),
        ("pools: {l4: {ready: 1}}", "{}", "given.pools.l4.types: is missing (or name a stack)"),
        ("pools: {}", "{}", "given.pools: must be at least 1 pools (got 0)"),
        (
            "stack: nope, pools: {l4: {ready: 1}}",
            "{}",
            "given.stack: cannot be used: Pulumi.nope.yaml: no such stack file",
        ),
        (
            "stack: local, service: caht, pools: {l4: {ready: 1}}",
            "{}",
            "given.service: must be a service of stack local",
        ),
    ],
)
def test_an_error_in_a_case_is_reported_with_its_key(root: Path, given_text: str, expect: str, problem: str) -> None:
    found = wrong(root, given_text, expect)
    assert any(problem in one for one in found), found


def test_two_cases_cannot_share_a_name(root: Path) -> None:
    text = policy(ONE_POOL) + "  - name: one\n    given: {" + ONE_POOL + "}\n    expect: {}\n"
    _, problems = cases(library_with(root, text), ["mine"], lambda name: read_stack(root, name)[0])
    assert [p.text for p in problems] == ["must differ from the other cases' (got one)"]


def test_a_stacks_pools_are_used_with_the_policy_under_test(root: Path) -> None:
    case = read(root, "stack: local, service: chat, pools: {l4: {ready: 3, load_percent: 50}}")
    assert [pool.name for pool in case.service.pools] == list(read_stack(root, "local")[0].services["chat"].pools)
    assert case.service.policy.model == "llama-3.1-8b"


def test_each_minute_is_decided_with_the_state_of_the_minute_before(root: Path) -> None:
    decide = Deciding()
    run(read(root, ONE_POOL + ", for_minutes: 3, before: {for_minutes: 2, pools: {l4: {load_percent: 10}}}"), decide)
    assert [now for *_, now in decide.calls] == [NOW - 60 * i for i in (4, 3, 2, 1, 0)]
    assert [state.at for _, _, state, _ in decide.calls] == [0.0, *(NOW - 60 * i for i in (4, 3, 2, 1))]
    loads = [seen.pools["l4"].load for _, seen, _, _ in decide.calls]
    first, last = loads[0], loads[-1]
    assert first is not None
    assert last is not None
    assert last.value == pytest.approx(9 * first.value)


def test_a_recently_launched_instance_is_absent_before_its_launch(root: Path) -> None:
    decide = Deciding()
    run(
        read(root, "for_minutes: 5, pools: {l4: {types: [g6.xlarge], ready: 2, starting: 1, starting_for_minutes: 2}}"),
        decide,
    )
    assert [seen.pools["l4"].desired for _, seen, _, _ in decide.calls] == [2, 2, 3, 3, 3]


def test_a_capacity_error_is_observed_once(root: Path) -> None:
    decide = Deciding()
    run(read(root, ONE_POOL + ", for_minutes: 3, capacity_errors: [l4]"), decide)
    assert [len(seen.pools["l4"].capacity_errors) for _, seen, _, _ in decide.calls] == [0, 0, 1]


def seen(case: Case) -> Observation:
    return observation(case.service, case.given, NOW)


def test_arrivals_follow_from_loads_and_loads_from_arrivals(root: Path) -> None:
    by_load = seen(read(root, ONE_POOL))
    assert by_load.arrivals_rps is not None
    rate = by_load.arrivals_rps.value
    by_rate = seen(read(root, f"arrivals_rps: {rate}, pools: {{l4: {{types: [g6.xlarge], ready: 4}}}}"))
    loads = by_load.pools["l4"].load, by_rate.pools["l4"].load
    assert loads[0] is not None
    assert loads[1] is not None
    assert loads[0].value == pytest.approx(loads[1].value)
    pool = read(root, ONE_POOL).service.pools[0]
    assert loads[0].value == pytest.approx(0.9 * 4 * pool.capacity)
    # Below capacity, and above nine tenths of it: concurrency is not proportional to work.
    assert 0.9 < rate / (4 * pool.throughput_rps) < 1


def test_an_overloaded_pool_has_all_slots_in_use(root: Path) -> None:
    case = read(root, "arrivals_rps: 1000, pools: {l4: {types: [g6.xlarge], ready: 4, waiting: 7}}")
    pool, load = case.service.pools[0], seen(case).pools["l4"].load
    assert load is not None
    assert load.value == pytest.approx(4 * pool.slots + 7)


def test_arrivals_are_shared_by_weight_if_weights_are_given(root: Path) -> None:
    both = "pools: {a: {types: [g6.xlarge], ready: 1, weight: 30}, b: {types: [g6.xlarge], ready: 1, weight: 10}}"
    found = seen(read(root, f"arrivals_rps: 2, {both}"))
    rates = [found.pools[name].rate_rps for name in ("a", "b")]
    assert [rate.value for rate in rates if rate] == [1.5, 0.5]


def test_missing_signals_are_missing_and_not_zero(root: Path) -> None:
    found = seen(read(root, ONE_POOL + ", missing: [load, arrivals, tokens]"))
    assert found.arrivals_rps is None
    assert found.input_tokens is None
    assert found.pools["l4"].load is None
    assert found.pools["l4"].waiting is None
    assert found.pools["l4"].rate_rps is not None


def test_old_readings_have_their_age(root: Path) -> None:
    found = seen(read(root, ONE_POOL + ", age_seconds: 400"))
    assert found.arrivals_rps is not None
    assert found.arrivals_rps.at == NOW - 400


def test_instances_have_their_phases_and_zones(root: Path) -> None:
    found = seen(
        read(
            root,
            "pools: {l4: {types: [g6.xlarge], spot_percent: 50, "
            "ready: 3, spot: 1, starting: 1, unhealthy: 1, draining: 1}}",
        )
    ).pools["l4"]
    assert [i.phase for i in found.instances] == [Phase.READY] * 3 + [Phase.STARTING, Phase.UNHEALTHY, Phase.DRAINING]
    assert [i.spot for i in found.instances] == [True] + [False] * 5
    assert {i.zone for i in found.instances} == {"us-east-1a", "us-east-1b"}
    assert len({i.id for i in found.instances}) == 6
    assert found.desired == 5
    assert found.on_demand_base == 0


def test_a_training_pool_has_jobs_on_its_busy_instances(root: Path) -> None:
    case = read(
        root,
        "pools: {l4: {types: [g6.xlarge], ready: 2, busy: 1, remaining_seconds: 90}}, "
        "jobs: {waiting: 3, oldest_seconds: 40}",
        more="workload: training\ntraining: {jobs_per_instance: 2}\n",
    )
    found = seen(case)
    assert found.jobs is not None
    assert (found.jobs.waiting, found.jobs.oldest_seconds) == (3, 40)
    assert [(i.jobs, i.remaining_seconds) for i in found.pools["l4"].instances] == [(2, 90), (0, None)]
    assert found.arrivals_rps is None


@given(st.integers(-50, 50), st.integers(-50, 50))
def test_bounds_mean_what_they_say(value: int, limit: int) -> None:
    assert within(value, f">={limit}") == (value >= limit)
    assert within(value, f"<{limit}") == (value < limit)
    assert within(value, f"!= {limit}") == (value != limit)
    assert within(value, str(limit)) == (value == limit)
    low, high = sorted((limit, limit + 5))
    assert within(value, f"{low}..{high}") == (low <= value <= high)


counts = st.integers(0, 30)
amounts = st.none() | st.floats(0, 500)


@given(
    pools=st.dictionaries(
        st.sampled_from(["l4", "l40s", "h100"]),
        st.fixed_dictionaries(
            {
                "ready": counts,
                "starting": counts,
                "unhealthy": counts,
                "draining": counts,
                "waiting": st.floats(0, 500),
            },
            optional={
                "load_percent": amounts,
                "load": amounts,
                "weight": st.none() | st.integers(0, 999),
                "spot": counts,
            },
        ),
        min_size=1,
    ),
    arrivals=amounts,
)
def test_no_short_form_makes_negative_values(
    stack_service: Service, pools: dict[str, Any], arrivals: float | None
) -> None:
    short = Given.model_validate({"pools": pools, "arrivals_rps": arrivals})
    whole = observation(stack_service, short, NOW)
    assert set(whole.pools) == {"l4", "l40s", "h100"}
    assert whole.arrivals_rps is not None
    assert whole.arrivals_rps.value >= 0
    for name, pool in whole.pools.items():
        given_pool = short.pools.get(name)
        assert len(pool.instances) == (sum(pools[name][key] for key in PHASES) if given_pool else 0)
        for reading in (pool.load, pool.running, pool.waiting, pool.rate_rps):
            assert reading is None or reading.value >= 0


PHASES = ("ready", "starting", "unhealthy", "draining")


@pytest.fixture(scope="module")
def stack_service(root: Path) -> Service:
    return read(root, "stack: local, service: chat, pools: {l4: {ready: 1}}").service


def test_a_policy_without_cases_has_none(root: Path) -> None:
    assert cases(library_with(root, "model: llama-3.1-8b\n"), ["mine"], _no_stack) == ([], [])


def _no_stack(name: str) -> Any:
    raise DocumentError([Problem(name, 0, 0, "", "no such stack file")])


def command(root: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["test", "--root", str(root), *arguments])


def test_the_command_shows_expectation_result_and_reasons(root: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(policy(ONE_POOL, '{total_desired: "<1"}'))
    result = command(root, str(mine))
    assert result.exit_code == 1
    assert "FAILED" in result.stdout
    assert f"{mine}:5: one" in result.stdout
    assert "total_desired: wanted <1, got " in result.stdout
    assert "demand demand." in result.stdout
    assert "1 cases in 1 policies, 1 failed" in result.stdout


def test_the_command_prints_reasons_of_passed_cases_only_with_explain(root: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(policy(ONE_POOL, '{total_desired: ">=4"}'))
    result = command(root, str(tmp_path))
    assert result.exit_code == 0
    assert "passed" in result.stdout
    assert "demand demand." not in result.stdout
    assert "demand demand." in command(root, str(tmp_path), "--explain").stdout


def test_the_command_runs_nothing_if_a_case_has_an_error(root: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(policy(ONE_POOL, "{total: 1}"))
    result = command(root, str(tmp_path))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "mine.yaml:7:14: cases[0].expect.total: unknown key; did you mean total_desired?" in result.stderr
    assert command(root, str(tmp_path / "nowhere.yaml")).stderr.endswith("nowhere.yaml: no such file\n")
