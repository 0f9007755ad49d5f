"""The search for a better policy on a trace, and the proof on traffic that the search has not seen.

1. The trace is cut by time: the first part is trained on, the rest is held out.
2. Optuna's multi-objective TPE (Ozaki et al., "Multiobjective tree-structured Parzen estimator", JAIR 73, 2022) tries
   values of the keys in `KNOBS` on the training part: cost down, attainment up. The policy as it is comes first.
3. Of the Pareto front those that reach the SLO and cost less than the policy (or reach it where the policy does not)
   are candidates, the cheapest first. Keys whose change buys nothing are put back.
4. Candidates run on the held-out part beside the policy, with seeds that the search has not used. The first is
   recommended that reaches the SLO there and is cheaper **on every seed** (a sign test: by chance alone 1 of 32 with
   five seeds). A candidate that only won in training is refused, with what it came to.

The seeds vary what is drawn (requests of rates, copies of scaled requests, routing). They say nothing of next month's
traffic: that is what the held-out part is for, and it is one stretch of time.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from gpu_fleet.backtest.backtest import Entrant, Scenario, Setting, run, scenario
from gpu_fleet.backtest.roster import OURS
from gpu_fleet.backtest.workers import Map
from gpu_fleet.scaling.policy import ForecastMethod, Policy
from gpu_fleet.traffic import RateTrace, Trace, crop

TRAIN_SHARE = 2 / 3
MOST_TRAIN_SECONDS = 24 * 3600.0
MOST_HOLDOUT_SECONDS = 12 * 3600.0
"""Of a longer trace the day before the cut and the half day after it are used: dozens of runs are made of each."""
LEAST_PART_SECONDS = 600.0
TRAIN_SEEDS = 2
HOLDOUT_SEED = 1000
"""Seeds of the held-out part start here, so that none of them was searched with."""
BATCH = 4
"""Trials that are asked for together. Fixed, so that the same seed gives the same search on any number of cores."""
MOST_CANDIDATES = 4
GAIN = 0.002
"""A candidate must cost this share less in training to be looked at."""
REACH = 0.25
NEIGHBOURS = 2
"""Of each batch so many are neighbours of the best so far, with one to three keys moved; the sampler asks for the rest.
Eleven keys are many for some dozen trials: a sampler alone rarely comes close to a policy that is good already."""


@dataclass(frozen=True, slots=True)
class Knob:
    """A key of the policy that is searched over, and the values that make sense for it."""

    key: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    digits: int = 0
    """Decimals that are kept, 0 for whole numbers: what is written into a file is to be read."""
    choices: tuple[str, ...] = ()
    needs_slo: bool = False

    def suggest(self, trial: Any) -> float | int | str:
        """A value of this trial."""
        if self.choices:
            return trial.suggest_categorical(self.key, self.choices)
        return self._rounded(trial.suggest_float(self.key, self.low, self.high, log=self.log))

    def near(self, value: float | str, random: Random) -> float | int | str:
        """Another value: any choice, or one within a quarter of the range (of a logarithmic one, of its logarithm)."""
        if self.choices:
            return random.choice(self.choices)
        here = float(self.clipped(value))
        if self.log:
            moved = here * (self.high / self.low) ** random.uniform(-REACH, REACH)
        else:
            moved = here + (self.high - self.low) * random.uniform(-REACH, REACH)
        return self.clipped(self._rounded(moved))

    def tidy(self, value: float | str) -> float | int | str:
        """The policy's own value as a trial would have it."""
        return value if self.choices else self._rounded(float(self.clipped(value)))

    def _rounded(self, value: float) -> float | int:
        return round(value, self.digits) if self.digits else round(value)

    def clipped(self, value: float | str) -> float | int | str:
        """The policy's own value as the search can express it."""
        if self.choices:
            return value
        return min(self.high, max(self.low, float(value)))


KNOBS = (
    Knob("forecast.method", choices=tuple(method.value for method in ForecastMethod)),
    Knob("forecast.confidence", 0.5, 0.9995, digits=4),
    Knob("forecast.max_headroom_percent", 20, 300),
    Knob("sizing.wait_budget", 0.0005, 0.05, log=True, digits=4, needs_slo=True),
    Knob("sizing.drain_backlog_seconds", 30, 600, log=True),
    Knob("burst.factor", 1.1, 3.0, digits=2),
    Knob("burst.hold_seconds", 0, 1800),
    Knob("horizontal.tolerance_percent", 0, 20, digits=1),
    Knob("horizontal.scale_in_stabilization_seconds", 0, 1800),
    Knob("vertical.minimum_stay_seconds", 300, 14_400, log=True),
    Knob("vertical.minimum_saving_percent", 0, 20, digits=1),
)

Values = Mapping[str, float | int | str]


@dataclass(frozen=True, slots=True)
class SeedFigures:
    """What a policy came to on one part of the trace: one value for each seed."""

    attainments: tuple[float, ...]
    costs_usd: tuple[float, ...]
    clairvoyant_usd: tuple[float, ...]

    @property
    def attainment(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.attainments)

    @property
    def cost_usd(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.costs_usd)

    @property
    def ratio(self) -> float:
        """Times the clairvoyant fleet, mean over the seeds."""
        return statistics.fmean(
            cost / least if least else float("inf")
            for cost, least in zip(self.costs_usd, self.clairvoyant_usd, strict=True)
        )

    def savings(self, before: SeedFigures) -> tuple[float, ...]:
        """Share saved against another, seed by seed."""
        return tuple(1 - now / then for now, then in zip(self.costs_usd, before.costs_usd, strict=True))


@dataclass(frozen=True, slots=True)
class Trial:
    """Values that were tried in training."""

    values: Values
    """Only those that differ from the policy."""
    train: SeedFigures


@dataclass(frozen=True, slots=True)
class Verdict:
    """A candidate on the held-out part."""

    trial: Trial
    holdout: SeedFigures
    accepted: bool
    why: str


@dataclass(frozen=True, slots=True)
class TuneResult:
    """What the search came to."""

    slo: float
    seeds: int
    train_seconds: tuple[float, float]
    """From and to, within the trace."""
    holdout_seconds: tuple[float, float]
    train: SeedFigures
    """The policy as it is."""
    holdout: SeedFigures
    trials: tuple[Trial, ...]
    front: tuple[Trial, ...]
    """Those that no other beats in both cost and attainment, by rising cost."""
    verdicts: tuple[Verdict, ...] = field(default=())

    @property
    def recommended(self) -> Verdict | None:
        """The candidate that holds on the held-out part; None where none does."""
        return next((one for one in self.verdicts if one.accepted), None)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A part of the trace at one seed, to be planned."""

    setting: Setting
    trace: Trace | RateTrace
    factor: float
    seed: int
    boot_seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    scenario: Scenario
    policy: Policy


def knobs_for(policy: Policy) -> tuple[Knob, ...]:
    """The keys that have a meaning for this policy."""
    return tuple(knob for knob in KNOBS if policy.slo is not None or not knob.needs_slo)


def value_of(policy: Policy, key: str) -> float | int | str:
    """The value in force: what the key says, or what follows from the others where it is not given."""
    if key == "forecast.confidence":
        return policy.forecast_confidence
    if key == "sizing.wait_budget":
        return policy.wait_budget
    section, name = key.split(".")
    value = getattr(getattr(policy, section), name)
    return value.value if isinstance(value, ForecastMethod) else value


def with_values(policy: Policy, values: Values) -> Policy:
    """The policy with these keys changed. Raises pydantic's ValidationError for a value that is not allowed."""
    data = policy.model_dump(exclude_unset=True)
    for key, value in values.items():
        section, name = key.split(".")
        data[section] = {**data.get(section, {}), name: value}
    return Policy.model_validate(data)


def parts(
    trace: Trace | RateTrace, train_share: float = TRAIN_SHARE
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the training part and the held-out part begin and end, in seconds of the trace.

    Raises ValueError where a part would be shorter than ten minutes.
    """
    if not 0 < train_share < 1:
        raise ValueError(f"train_share: must be between 0 and 1 (got {train_share})")
    step = max(60.0, trace.step_seconds if isinstance(trace, RateTrace) else 0.0)
    cut = round(train_share * trace.span_seconds / step) * step
    train = (max(0.0, cut - MOST_TRAIN_SECONDS), cut)
    holdout = (cut, min(trace.span_seconds, cut + MOST_HOLDOUT_SECONDS))
    if min(train[1] - train[0], holdout[1] - holdout[0]) < LEAST_PART_SECONDS:
        raise ValueError(
            f"{trace.name}: is too short to be split: both parts must be at least {LEAST_PART_SECONDS:g} s "
            f"(got {train[1] - train[0]:g} s and {holdout[1] - holdout[0]:g} s)"
        )
    return train, holdout


def tune(
    setting: Setting,
    trace: Trace | RateTrace,
    factor: float,
    workers: Map,
    *,
    slo: float,
    trials: int = 40,
    seed: int = 0,
    seeds: int = 5,
    boot_seconds: float = 300.0,
    train_share: float = TRAIN_SHARE,
    begin: Callable[[str, int], None] | None = None,
    done: Callable[[str], None] | None = None,
) -> TuneResult:
    """Search, and hold what was found against the rest of the trace.

    `slo` is the share of requests that must keep to the policy's limits. `seeds`: of the held-out part. Raises
    ValueError for a trace too short and for numbers that make no sense.
    """
    if not 0 < slo < 1:
        raise ValueError(f"slo: must be between 0 and 1 (got {slo})")
    if trials < 1:
        raise ValueError(f"trials: must be at least 1 (got {trials})")
    if seeds < 2:
        raise ValueError(f"seeds: must be at least 2, or there is nothing to tell chance by (got {seeds})")
    train_span, holdout_span = parts(trace, train_share)
    tell = begin or (lambda what, count: None)
    tick = done or (lambda newest: None)
    first, rest = crop(trace, *train_span), crop(trace, *holdout_span)
    planned = [_Part(setting, first, factor, seed + i, boot_seconds) for i in range(TRAIN_SEEDS)]
    planned += [_Part(setting, rest, factor, seed + HOLDOUT_SEED + i, boot_seconds) for i in range(seeds)]
    tell("demand and bound", len(planned))
    there = workers(_plan, planned, lambda one: tick(f"seed {one.seed}"))
    desk = _Desk(setting.service.policy, there[:TRAIN_SEEDS], there[TRAIN_SEEDS:], workers)
    tell("search", trials)
    tried = _search(desk, slo, trials, seed, tick)
    front = pareto(tried)
    candidates = _candidates(tried, front, slo)
    tell("held-out part", 1 + len(candidates))
    before = desk.on_holdout([{}])[0]
    tick("the policy")
    verdicts: list[Verdict] = []
    for candidate in candidates:
        plain = _put_back(desk, candidate, slo)
        verdict = judge(plain, desk.on_holdout([plain.values])[0], before, slo)
        if not verdict.accepted and plain is not candidate:
            verdict = judge(candidate, desk.on_holdout([candidate.values])[0], before, slo)
        verdicts.append(verdict)
        tick("candidate")
        if verdict.accepted:
            break
    return TuneResult(
        slo=slo,
        seeds=seeds,
        train_seconds=train_span,
        holdout_seconds=holdout_span,
        train=tried[0].train,
        holdout=before,
        trials=tuple(tried),
        front=front,
        verdicts=tuple(verdicts),
    )


class _Desk:
    """Runs policies on both parts."""

    def __init__(self, policy: Policy, train: Sequence[Scenario], holdout: Sequence[Scenario], workers: Map) -> None:
        self.policy, self._train, self._holdout, self._workers = policy, train, holdout, workers

    def on_train(self, values: Sequence[Values]) -> list[SeedFigures]:
        """Several policies at once."""
        return self._figures(values, self._train)

    def on_holdout(self, values: Sequence[Values]) -> list[SeedFigures]:
        """Several policies at once."""
        return self._figures(values, self._holdout)

    def _figures(self, values: Sequence[Values], scenarios: Sequence[Scenario]) -> list[SeedFigures]:
        policies = [with_values(self.policy, one) for one in values]
        found = self._workers(_compute, [_Job(one, policy) for policy in policies for one in scenarios])
        rows = [found[i : i + len(scenarios)] for i in range(0, len(found), len(scenarios))]
        bounds = tuple(one.clairvoyant_usd for one in scenarios)
        return [SeedFigures(tuple(a for a, _ in row), tuple(c for _, c in row), bounds) for row in rows]


def _plan(part: _Part) -> Scenario:
    return scenario(part.setting, part.trace, part.factor, part.seed, part.boot_seconds)


def _compute(job: _Job) -> tuple[float, float]:
    there = replace(job.scenario, setting=job.scenario.setting.with_policy(job.policy))
    found = run(there, Entrant(OURS)).result
    return found.slo_attainment, found.cost_usd


def _search(desk: _Desk, slo: float, trials: int, seed: int, tick: Callable[[str], None]) -> list[Trial]:
    """The policy as it is, and so many trials less one."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    knobs = knobs_for(desk.policy)
    now = {knob.key: value_of(desk.policy, knob.key) for knob in knobs}
    study = optuna.create_study(
        directions=["minimize", "maximize"],
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, max(1, trials // 3))),
    )
    study.enqueue_trial({knob.key: knob.clipped(now[knob.key]) for knob in knobs})
    random = Random(seed)
    tried: list[Trial] = []
    while len(tried) < trials:
        if tried:
            best = now | dict(_best(tried, slo).values)
            for _ in range(NEIGHBOURS):
                moved = random.sample(knobs, random.randint(1, 3))
                other = best | {knob.key: knob.near(best[knob.key], random) for knob in moved}
                study.enqueue_trial({knob.key: knob.clipped(other[knob.key]) for knob in knobs})
        # The first alone: it is the policy itself, whatever the search can express of it.
        asked = [study.ask() for _ in range(1 if not tried else min(BATCH, trials - len(tried)))]
        drawn = [{knob.key: knob.suggest(trial) for knob in knobs} for trial in asked]
        values = [_changed(one, now, knobs) for one in drawn] if tried else [{}]
        for trial, chosen, found in zip(asked, values, desk.on_train(values), strict=True):
            trial.set_constraint("slo", slo - found.attainment)
            study.tell(trial, [found.cost_usd, found.attainment])
            tried.append(Trial(chosen, found))
            tick(f"{found.attainment:.2%} at {found.ratio:.2f}")
    return tried


def _changed(drawn: Values, now: Values, knobs: Sequence[Knob]) -> Values:
    """What differs from the policy. A value beyond the search (1e9 seconds) that did not move is no difference."""
    return {knob.key: drawn[knob.key] for knob in knobs if drawn[knob.key] != knob.tidy(now[knob.key])}


def _best(tried: Sequence[Trial], slo: float) -> Trial:
    """The cheapest that reaches the SLO; the one that comes nearest where none does."""
    enough = [one for one in tried if one.train.attainment >= slo]
    return min(enough, key=lambda one: one.train.cost_usd) if enough else max(tried, key=lambda o: o.train.attainment)


def pareto(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """The trials that none beats in both: by rising cost, each with more attainment than all cheaper ones."""
    front: list[Trial] = []
    for trial in sorted(trials, key=lambda one: (one.train.cost_usd, -one.train.attainment)):
        if not front or trial.train.attainment > front[-1].train.attainment:
            front.append(trial)
    return tuple(front)


def _candidates(tried: Sequence[Trial], front: Sequence[Trial], slo: float) -> list[Trial]:
    """What of the front is worth holding against the rest of the trace, the cheapest first."""
    policy = tried[0].train
    enough = [one for one in front if one.values and one.train.attainment >= slo]
    if policy.attainment >= slo:
        enough = [one for one in enough if one.train.cost_usd < policy.cost_usd * (1 - GAIN)]
    return enough[:MOST_CANDIDATES]


def _put_back(desk: _Desk, trial: Trial, slo: float) -> Trial:
    """Without the changes that buy nothing in training: alone, and then all of those together."""
    if len(trial.values) < 2:
        return trial
    keys = list(trial.values)
    without = desk.on_train([{k: v for k, v in trial.values.items() if k != key} for key in keys])
    limit = trial.train.cost_usd * (1 + GAIN / 2)

    def as_good(found: SeedFigures) -> bool:
        return found.attainment >= slo and found.cost_usd <= limit

    idle = {key for key, found in zip(keys, without, strict=True) if as_good(found)}
    kept = {k: v for k, v in trial.values.items() if k not in idle}
    if not idle or not kept:
        return trial
    found = desk.on_train([kept])[0]
    return Trial(kept, found) if as_good(found) else trial


def judge(trial: Trial, after: SeedFigures, before: SeedFigures, slo: float) -> Verdict:
    """Whether what won in training holds on traffic that the search has not seen, against the policy as it is there."""
    savings = after.savings(before)
    said = f"{after.attainment:.3%} within the SLO, {_span(savings)}"
    if after.attainment < slo:
        return Verdict(trial, after, accepted=False, why=f"misses the SLO on the held-out part: {said}")
    if before.attainment < slo:
        return Verdict(
            trial, after, accepted=True, why=f"reaches the SLO where the policy has {before.attainment:.3%}: {said}"
        )
    if min(savings) <= 0:
        return Verdict(trial, after, accepted=False, why=f"not cheaper on every seed of the held-out part: {said}")
    return Verdict(trial, after, accepted=True, why=f"holds on the held-out part: {said}")


def _span(savings: Sequence[float]) -> str:
    mean = statistics.fmean(savings)
    word = "less" if mean >= 0 else "more"
    return f"costs {abs(mean):.1%} {word} ({-max(savings):+.1%} to {-min(savings):+.1%} over {len(savings)} seeds)"
