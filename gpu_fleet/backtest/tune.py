"""The search for a better policy on a trace, and the proof on traffic that the search has not seen.

1. The trace is cut in time: the search trains on the first part; the rest is held out.
2. Optuna's multi-objective TPE (Ozaki et al., "Multiobjective tree-structured Parzen estimator", JAIR 73, 2022) tries
   values of the keys in `KNOBS` on the training part: cost down, attainment up. The policy as it is comes first.
3. The candidates are the trials on the Pareto front that reach the SLO and cost less than the policy (or reach it if
   the policy does not), the cheapest first. Keys whose change gains nothing are reset.
4. Candidates run on the held-out part beside the policy, with seeds that the search has not used. The first one is
   recommended that reaches the SLO there and is cheaper **on every seed** (a sign test: with five seeds, chance alone
   does this 1 time in 32). A candidate that only won in training is refused, and its figures are shown.

The seeds vary what is drawn: requests of rates, copies of scaled requests, routing. They say nothing about next month's
traffic. The held-out part does, and it is only one stretch of time.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

from gpu_fleet.backtest.knobs import Knob, Values, knobs_for, value_of, with_values
from gpu_fleet.backtest.progress import SILENT, Progress
from gpu_fleet.backtest.roster import OURS, Entrant
from gpu_fleet.backtest.run import run
from gpu_fleet.backtest.scenario import Scenario, ScenarioSpec, prepare
from gpu_fleet.backtest.workers import Map
from gpu_fleet.scaling.policy import Policy
from gpu_fleet.traffic import RateTrace, Trace, crop

TRAIN_SHARE = 2 / 3
MOST_TRAIN_SECONDS = 24 * 3600.0
MOST_HOLDOUT_SECONDS = 12 * 3600.0
"""Of a longer trace, the day before the cut and the half day after it are used, since each is run dozens of times."""
LEAST_PART_SECONDS = 600.0
TRAIN_SEEDS = 2
HOLDOUT_SEED = 1000
"""Added to the seed for the held-out part, so that the search has used none of its seeds."""
BATCH = 4
"""Trials per batch. It is fixed, so that a seed gives the same search on any number of cores."""
NEIGHBOURS = 2
"""Trials of a batch that are neighbours of the best so far, with one to three keys changed; the sampler suggests the
others. Eleven keys are many for a few dozen trials: a sampler alone rarely comes close to a policy that is already
good."""
MOST_CANDIDATES = 4
GAIN = 0.002
"""A candidate must cost less than the policy by this share in training."""


@dataclass(frozen=True, slots=True)
class Search:
    """What to search for, and how long."""

    slo: float
    """The share of requests that must keep to the policy's limits."""
    trials: int = 40
    seeds: int = 5
    """Seeds of the held-out part."""
    train_share: float = TRAIN_SHARE
    """The share of the trace to train on."""

    def check(self) -> None:
        """Raise ValueError for numbers that make no sense."""
        if not 0 < self.slo < 1:
            raise ValueError(f"slo: must be between 0 and 1 (got {self.slo})")
        if self.trials < 1:
            raise ValueError(f"trials: must be at least 1 (got {self.trials})")
        if self.seeds < 2:
            raise ValueError(f"seeds: must be at least 2, to tell a gain from chance (got {self.seeds})")


@dataclass(frozen=True, slots=True)
class SeedFigures:
    """A policy's figures on one part of the trace: one value for each seed."""

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
        """Cost over that of the clairvoyant fleet, mean over the seeds."""
        return statistics.fmean(
            cost / least if least else float("inf")
            for cost, least in zip(self.costs_usd, self.clairvoyant_usd, strict=True)
        )

    def savings(self, before: SeedFigures) -> tuple[float, ...]:
        """Return the share saved against `before`, seed by seed."""
        return tuple(1 - now / then for now, then in zip(self.costs_usd, before.costs_usd, strict=True))


@dataclass(frozen=True, slots=True)
class Trial:
    """Values tried in training."""

    values: Values
    """Only those that differ from the policy."""
    train: SeedFigures


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of a candidate on the held-out part."""

    trial: Trial
    holdout: SeedFigures
    accepted: bool
    why: str


@dataclass(frozen=True, slots=True)
class TuneResult:
    """The result of a search."""

    slo: float
    seeds: int
    train_seconds: tuple[float, float]
    """Begin and end, within the trace."""
    holdout_seconds: tuple[float, float]
    train: SeedFigures
    """The policy as it is."""
    holdout: SeedFigures
    """The policy as it is."""
    trials: tuple[Trial, ...]
    front: tuple[Trial, ...]
    """The trials that no other beats in both cost and attainment, by rising cost."""
    verdicts: tuple[Verdict, ...] = field(default=())

    @property
    def recommended(self) -> Verdict | None:
        """The candidate that also wins on the held-out part, if one does."""
        return next((verdict for verdict in self.verdicts if verdict.accepted), None)


@dataclass(frozen=True, slots=True, eq=False)
class PolicyTask:
    """A policy to run in a scenario."""

    scenario: Scenario
    policy: Policy


@dataclass(frozen=True, slots=True)
class PolicyOutcome:
    """The attainment and the cost of one run."""

    attainment: float
    cost_usd: float


def parts(
    trace: Trace | RateTrace, train_share: float = TRAIN_SHARE
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return begin and end of the training part and of the held-out part, in seconds of the trace.

    Raises ValueError if a part would be shorter than ten minutes.
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


def tune(spec: ScenarioSpec, search: Search, workers: Map, progress: Progress = SILENT) -> TuneResult:
    """Search for a better policy on the first part of the trace, and judge the candidates on the rest.

    The scenario's seed determines the search. Raises ValueError for a trace that is too short and for numbers that
    make no sense.
    """
    search.check()
    train_seconds, holdout_seconds = parts(spec.trace, search.train_share)
    train = replace(spec, trace=crop(spec.trace, *train_seconds))
    holdout = replace(spec, trace=crop(spec.trace, *holdout_seconds), seed=spec.seed + HOLDOUT_SEED)
    seeded = [replace(train, seed=train.seed + i) for i in range(TRAIN_SEEDS)]
    seeded += [replace(holdout, seed=holdout.seed + i) for i in range(search.seeds)]
    progress.begin("demand and bound", len(seeded))
    scenarios = workers(prepare, seeded, lambda one: progress.done(f"seed {one.seed}"))
    policy = spec.setting.service.policy
    trainer = _Trainer(policy, scenarios[:TRAIN_SEEDS], workers, search.slo)
    progress.begin("search", search.trials)
    trials = _search(trainer, search.trials, spec.seed, progress)
    front = pareto(trials)
    candidates = _candidates(trials, front, search.slo)
    progress.begin("held-out part", 1 + len(candidates))
    judging = _Judge(_Evaluator(policy, scenarios[TRAIN_SEEDS:], workers), search.slo)
    progress.done("the policy")
    verdicts: list[Verdict] = []
    for candidate in candidates:
        verdicts.append(judging.verdict(candidate, trainer.without_idle_changes(candidate)))
        progress.done("candidate")
        if verdicts[-1].accepted:
            break
    return TuneResult(
        slo=search.slo,
        seeds=search.seeds,
        train_seconds=train_seconds,
        holdout_seconds=holdout_seconds,
        train=trials[0].train,
        holdout=judging.before,
        trials=tuple(trials),
        front=front,
        verdicts=tuple(verdicts),
    )


class _Evaluator:
    """Runs variants of a policy on one part of the trace, at every seed."""

    def __init__(self, policy: Policy, scenarios: Sequence[Scenario], workers: Map) -> None:
        self.policy, self._scenarios, self._workers = policy, scenarios, workers

    def figures(self, variants: Sequence[Values]) -> list[SeedFigures]:
        """Return the figures of each variant."""
        policies = [with_values(self.policy, values) for values in variants]
        tasks = [PolicyTask(scenario, policy) for policy in policies for scenario in self._scenarios]
        outcomes = self._workers(run_policy, tasks)
        count = len(self._scenarios)
        bounds = tuple(scenario.clairvoyant_usd for scenario in self._scenarios)
        rows = [outcomes[i : i + count] for i in range(0, len(outcomes), count)]
        return [SeedFigures(tuple(o.attainment for o in row), tuple(o.cost_usd for o in row), bounds) for row in rows]


def run_policy(task: PolicyTask) -> PolicyOutcome:
    """Run a task; this is what a worker does."""
    scenario = replace(task.scenario, setting=task.scenario.setting.with_policy(task.policy))
    result = run(scenario, Entrant(OURS)).result
    return PolicyOutcome(result.slo_attainment, result.cost_usd)


class _Trainer(_Evaluator):
    """Runs variants of a policy on the training part."""

    def __init__(self, policy: Policy, scenarios: Sequence[Scenario], workers: Map, slo: float) -> None:
        super().__init__(policy, scenarios, workers)
        self.slo = slo

    def without_idle_changes(self, trial: Trial) -> Trial:
        """Return the trial without the changes that gain nothing.

        Each change is left out alone, and then all of those that gain nothing together.
        """
        if len(trial.values) < 2:
            return trial
        keys = list(trial.values)
        without = self.figures([{k: v for k, v in trial.values.items() if k != key} for key in keys])
        limit_usd = trial.train.cost_usd * (1 + GAIN / 2)

        def is_as_good(figures: SeedFigures) -> bool:
            return figures.attainment >= self.slo and figures.cost_usd <= limit_usd

        idle = {key for key, figures in zip(keys, without, strict=True) if is_as_good(figures)}
        kept = {k: v for k, v in trial.values.items() if k not in idle}
        if not idle or not kept:
            return trial
        figures = self.figures([kept])[0]
        return Trial(kept, figures) if is_as_good(figures) else trial


def _search(trainer: _Trainer, count: int, seed: int, progress: Progress) -> list[Trial]:
    """Return `count` trials, the policy as it is first."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    knobs = knobs_for(trainer.policy)
    own = {knob.key: value_of(trainer.policy, knob.key) for knob in knobs}
    study = optuna.create_study(
        directions=["minimize", "maximize"],
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, max(1, count // 3))),
    )
    study.enqueue_trial({knob.key: knob.clipped(own[knob.key]) for knob in knobs})
    random = Random(seed)
    trials: list[Trial] = []
    while len(trials) < count:
        if trials:
            best = own | dict(_best(trials, trainer.slo).values)
            for _ in range(NEIGHBOURS):
                changed = random.sample(knobs, random.randint(1, 3))
                neighbour = best | {knob.key: knob.neighbour(best[knob.key], random) for knob in changed}
                study.enqueue_trial({knob.key: knob.clipped(neighbour[knob.key]) for knob in knobs})
        # The first trial is alone: it is the policy itself, even if the search cannot express all of its values.
        batch = [study.ask() for _ in range(min(BATCH, count - len(trials)) if trials else 1)]
        suggested = [{knob.key: knob.suggest(trial) for knob in knobs} for trial in batch]
        variants = [_differences(values, own, knobs) for values in suggested] if trials else [{}]
        for trial, values, figures in zip(batch, variants, trainer.figures(variants), strict=True):
            trial.set_constraint("slo", trainer.slo - figures.attainment)
            study.tell(trial, [figures.cost_usd, figures.attainment])
            trials.append(Trial(values, figures))
            progress.done(f"{figures.attainment:.2%} at {figures.ratio:.2f}")
    return trials


def _differences(suggested: Values, own: Values, knobs: Sequence[Knob]) -> Values:
    """Return the values that differ from the policy's own.

    An own value beyond the search's range (1e9 seconds) is no difference if the suggestion is still at the range's end.
    """
    return {knob.key: suggested[knob.key] for knob in knobs if suggested[knob.key] != knob.as_suggested(own[knob.key])}


def _best(trials: Sequence[Trial], slo: float) -> Trial:
    """Return the cheapest trial that reaches the SLO; the one that comes nearest if none does."""
    enough = [trial for trial in trials if trial.train.attainment >= slo]
    if enough:
        return min(enough, key=lambda trial: trial.train.cost_usd)
    return max(trials, key=lambda trial: trial.train.attainment)


def pareto(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Return the Pareto front: by rising cost, each trial with more attainment than all cheaper ones."""
    front: list[Trial] = []
    for trial in sorted(trials, key=lambda one: (one.train.cost_usd, -one.train.attainment)):
        if not front or trial.train.attainment > front[-1].train.attainment:
            front.append(trial)
    return tuple(front)


def _candidates(trials: Sequence[Trial], front: Sequence[Trial], slo: float) -> list[Trial]:
    """Return the trials of the front that are worth running on the held-out part, the cheapest first."""
    policy = trials[0].train
    enough = [trial for trial in front if trial.values and trial.train.attainment >= slo]
    if policy.attainment >= slo:
        enough = [trial for trial in enough if trial.train.cost_usd < policy.cost_usd * (1 - GAIN)]
    return enough[:MOST_CANDIDATES]


class _Judge:
    """Compares candidates with the policy on the held-out part."""

    def __init__(self, holdout: _Evaluator, slo: float) -> None:
        self._holdout, self._slo = holdout, slo
        self.before = holdout.figures([{}])[0]
        """The policy as it is."""

    def verdict(self, candidate: Trial, simplified: Trial) -> Verdict:
        """Judge the candidate without its idle changes; if that is refused, as it was found."""
        verdict = self._judge(simplified)
        if not verdict.accepted and simplified is not candidate:
            verdict = self._judge(candidate)
        return verdict

    def _judge(self, trial: Trial) -> Verdict:
        return judge(trial, self._holdout.figures([trial.values])[0], self.before, self._slo)


def judge(trial: Trial, after: SeedFigures, before: SeedFigures, slo: float) -> Verdict:
    """Judge a trial on the held-out part: `after` are its figures there, `before` those of the policy as it is."""
    savings = after.savings(before)
    figures = f"{after.attainment:.3%} within the SLO, {_cost_change(savings)}"
    if after.attainment < slo:
        return Verdict(trial, after, accepted=False, why=f"misses the SLO on the held-out part: {figures}")
    if before.attainment < slo:
        why = f"reaches the SLO, while the policy reaches only {before.attainment:.3%}: {figures}"
        return Verdict(trial, after, accepted=True, why=why)
    if min(savings) <= 0:
        return Verdict(trial, after, accepted=False, why=f"not cheaper on every seed of the held-out part: {figures}")
    return Verdict(trial, after, accepted=True, why=f"holds on the held-out part: {figures}")


def _cost_change(savings: Sequence[float]) -> str:
    mean = statistics.fmean(savings)
    word = "less" if mean >= 0 else "more"
    return f"costs {abs(mean):.1%} {word} ({-max(savings):+.1%} to {-min(savings):+.1%} over {len(savings)} seeds)"
