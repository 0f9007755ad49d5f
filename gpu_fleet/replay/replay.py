"""The replay: traffic, engines, metrics and the real handler, step by step in virtual time."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from gpu_fleet.emulator import Change, EmbeddedCloud, PublishingDelays, Traffic
from gpu_fleet.emulator.lifelike.metric_store import MetricKey
from gpu_fleet.emulator.publishing import BALANCER
from gpu_fleet.replay.alarms import Alarms
from gpu_fleet.replay.engine_fleet import EngineFleet
from gpu_fleet.replay.function import Decided, Invocation, ScalerFunction
from gpu_fleet.replay.hardware import PoolHardware
from gpu_fleet.replay.replay_result import MinuteOfReplay, PoolMinute, ReplayResult
from gpu_fleet.scaling import record
from gpu_fleet.scaling.observation import Phase
from gpu_fleet.scaling.service import Service
from gpu_fleet.simulator.feed import Feed, Source
from gpu_fleet.simulator.pool_window import PoolWindow, Window
from gpu_fleet.simulator.simulation import Simulation

FINE_SECONDS = 10.0
"""How often the instances publish."""
MINUTE_SECONDS = 60.0
OPENS_WITHIN_SECONDS = 3600.0
FINISHES_WITHIN_SECONDS = 3600.0
SCHEDULE: Mapping[str, Any] = {"source": "schedule"}
"""The input that the stack's schedule sends."""


@dataclass(frozen=True, slots=True)
class ReplayDelays:
    """From the end of a period until CloudWatch shows it; as `gpu_fleet.simulator.telemetry.Delays`, with its
    sources.
    """

    minute_seconds: float = 60.0
    fine_seconds: float = 30.0

    @property
    def for_cloud(self) -> PublishingDelays:
        """As the embedded cloud takes them: there an engine's delay counts from the start of its 10 s."""
        return PublishingDelays(self.minute_seconds, self.fine_seconds + FINE_SECONDS)


@dataclass(frozen=True, slots=True)
class Opening:
    """What stands, ready, when the traffic begins; pools that are not named stand at their minimum."""

    ready: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, int] | None = None
    """None: in proportion to what each pool's instances complete."""


class Replay:
    """One service of an open embedded cloud under a trace.

    The cloud must have been provisioned with `ReplayDelays.for_cloud` and `drain_seconds=until_told`; `step` moves a
    minute on.

        with provision("local", root, CloudOptions(drain_seconds=until_told, delays=Delays().for_cloud)) as cloud:
            with Replay(cloud, "chat", trace, pool_hardware(...)) as replay:
                result = replay.run()
    """

    def __init__(
        self,
        cloud: EmbeddedCloud,
        service: str,
        source: Source,
        hardware: Mapping[str, PoolHardware],
        *,
        opening: Opening | None = None,
        delays: ReplayDelays | None = None,
        seed: int = 0,
        minutes: int | None = None,
    ) -> None:
        """`delays` are those of the cloud. `minutes` ends the replay before the trace does.

        Raises KeyError for a service that the stack has not.
        """
        parameter = cloud.services[service]
        self.service = record.load(Service, json.dumps(parameter["service"]))
        self.cloud, self._hardware, self._seed = cloud, hardware, seed
        self._bindings: Mapping[str, Any] = parameter["bindings"]
        self._pools = [pool.name for pool in self.service.pools]
        self._groups = {name: self._bindings["pools"][name]["group"] for name in self._pools}
        self._arns = {name: self._bindings["pools"][name]["target_group_arn"] for name in self._pools}
        self._source, self._opening, self._delays = source, opening or Opening(), delays or ReplayDelays()
        self.span_seconds = (
            source.span_seconds if minutes is None else min(source.span_seconds, minutes * MINUTE_SECONDS)
        )
        self.start = 0.0
        """The trace's start, seconds since the epoch; known once open."""
        self.minutes: list[MinuteOfReplay] = []
        self.invocations: list[Invocation] = []
        self._feed = Feed(source, seed)
        self.fleet: EngineFleet
        self.simulation: Simulation
        self._function: ScalerFunction
        self._alarms: Alarms
        self._weights: dict[str, int] = {}
        self._minute: Window | None = None
        self._total: Window | None = None
        self._newest: Decided | None = None
        self._open = contextlib.ExitStack()

    # --- the opening ---

    def __enter__(self) -> Self:
        """Bring up what the opening asks for, and start the function cold. Raises RuntimeError where it does not come.

        No metric of this time is kept, so that the scaler starts without a past, as a service that was just put up.
        """
        cloud = self.cloud
        # The instances that stand already were launched before anyone could watch: groups are filled a second after
        # they are made, and the program's time stands still.
        self.fleet = EngineFleet(cloud, self.service, self._groups, self._hardware)
        with contextlib.ExitStack() as opening:
            self._bring_up()
            self.start = cloud.now
            # What the load balancer says of the time before the start has arrived a delay after it; no engine spoke.
            self._forget_metrics_until(self.start + self._delays.minute_seconds)
            self.simulation = Simulation(
                [self._hardware[name].engine for name in self._pools],
                slo=self.service.policy.slo,
                seed=self._seed,
                sample_seconds=FINE_SECONDS,
            )
            self.fleet.begin(self.simulation, self.start)
            self._function = opening.enter_context(ScalerFunction(cloud))
            self._alarms = Alarms(cloud, self._function.arn)
            cloud.lifelike.events.functions[self._function.arn] = lambda event: self._invoke(event, "notice")
            opening.callback(cloud.lifelike.events.functions.pop, self._function.arn)
            self._read_weights()
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """The function's environment is gone; the cloud stays open."""
        self._open.close()

    def _forget_metrics_until(self, moment: float) -> None:
        def lost(key: MetricKey) -> bool:
            return key[0] == BALANCER and self.cloud.now <= moment

        self.cloud.metrics.series.clear()
        self.cloud.metrics.lost.append(lost)

    def _bring_up(self) -> None:
        groups = self.cloud.client("autoscaling")
        wanted = {
            pool.name: max(pool.min_instances, self._opening.ready.get(pool.name, 0)) for pool in self.service.pools
        }
        for name, count in wanted.items():
            groups.set_desired_capacity(AutoScalingGroupName=self._groups[name], DesiredCapacity=count)
        self._write_weights(self._opening.weights or _by_work(self.service, wanted))
        latest = self.cloud.now + OPENS_WITHIN_SECONDS
        while True:
            self.cloud.advance(MINUTE_SECONDS * (self.cloud.now // MINUTE_SECONDS + 1))
            if all(self.fleet.count(name, Phase.READY) == count for name, count in wanted.items()):
                return
            if self.cloud.now > latest:
                raise RuntimeError(f"no {wanted} became ready within {OPENS_WITHIN_SECONDS:g} s")

    def _write_weights(self, weights: Mapping[str, int]) -> None:
        balancer = self.cloud.client("elbv2")
        arn = self._bindings["listener_rule_arn"]
        action = next(a for a in self._rule(balancer)["Actions"] if a["Type"] == "forward")
        forward = dict(action["ForwardConfig"])
        forward["TargetGroups"] = [
            {"TargetGroupArn": self._arns[name], "Weight": weights.get(name, 0)} for name in self._pools
        ]
        balancer.modify_rule(RuleArn=arn, Actions=[{"Type": "forward", "ForwardConfig": forward}])

    def _rule(self, balancer: Any) -> Mapping[str, Any]:
        return balancer.describe_rules(RuleArns=[self._bindings["listener_rule_arn"]])["Rules"][0]

    def _read_weights(self) -> None:
        """The load balancer shares the traffic by the rule as it stands."""
        action = next(a for a in self._rule(self.cloud.client("elbv2"))["Actions"] if a["Type"] == "forward")
        by_arn = {one["TargetGroupArn"]: int(one["Weight"]) for one in action["ForwardConfig"]["TargetGroups"]}
        weights = {name: by_arn.get(arn, 0) for name, arn in self._arns.items()}
        if weights != self._weights:
            self._weights = weights
            self.simulation.set_weights([float(weights[name]) for name in self._pools])

    # --- time ---

    @property
    def now(self) -> float:
        """Seconds from the trace's start."""
        return self.cloud.now - self.start

    def run(self, progress: Callable[[Replay], None] | None = None) -> ReplayResult:
        """Replay to the end; `progress` is called after each minute."""
        while self.now < self.span_seconds:
            self.step()
            if progress is not None:
                progress(self)
        return self.result()

    def step(self) -> None:
        """One minute: its traffic, and the scaler's run at its end; between, its alarms each 10 s."""
        end = min(self.span_seconds, MINUTE_SECONDS * (len(self.minutes) + 1))
        while self.now < end:
            edge = min(end, FINE_SECONDS * (self.now // FINE_SECONDS + 1))
            whole = edge % FINE_SECONDS == 0
            self._serve(edge, publish=whole)
            if whole and edge < end:
                for event in self._alarms.fired(self.cloud.now):
                    self._invoke(event, "alarm")
        self._end_minute(end)
        if end < self.span_seconds:
            self._invoke(SCHEDULE, "schedule")
            for event in self._alarms.fired(self.cloud.now):
                self._invoke(event, "alarm")

    def _invoke(self, event: Mapping[str, Any], trigger: str) -> None:
        run = self._function.invoke(event, trigger)
        self.invocations.append(run)
        self._newest = next((one for one in run.decided if one.service == self.service.name), self._newest)
        self._read_weights()

    def _serve(self, edge: float, *, publish: bool) -> None:
        """Let both worlds move to `edge` (seconds from the start): the cloud first, so that every change of an instance
        is known to the simulation before the time when it happens.
        """
        self.cloud.advance(self.start + edge)
        self.simulation.run(edge, *self._feed.take(edge))
        self.fleet.settle()
        window = self.simulation.window()
        self._minute = window if self._minute is None else self._minute.then(window)
        self._total = window if self._total is None else self._total.then(window)
        if publish:
            self._publish_engines(edge, window)

    def _publish_engines(self, edge: float, window: Window) -> None:
        """The gauges of every instance that serves, as its agent reads them; of several copies their sum or mean.

        The simulation tells latency and use of the GPUs by pool: each of its instances says the pool's.
        """
        gauges: dict[str, dict[str, float]] = {}
        told: dict[str, float] = {}
        (seen,) = self.simulation.samples()
        of_targets = (seen.running, seen.waiting, seen.kv_share, seen.ended, seen.input_tokens, seen.output_tokens)
        for number, index, *values in zip(seen.instance, seen.pool, *of_targets, strict=True):
            owner = self.fleet.owner(int(number))
            if owner is None:
                continue
            running, waiting, kv_share, ended, input_tokens, output_tokens = map(float, values)
            pool, copies = window.pools[int(index)], self._hardware[self._pools[int(index)]].copies
            own = gauges.setdefault(owner, {})
            _add(own, "requests_running", running)
            _add(own, "requests_waiting", waiting)
            _add(own, "finished_rps", ended / FINE_SECONDS)
            _add(own, "kv_cache_percent", 100 * kv_share / copies)
            if pool.busy_percent is not None:
                own["gpu_percent"] = pool.busy_percent
            if ended:
                before = told.get(owner, 0.0)
                told[owner] = before + ended
                for name, value in (("input_tokens", input_tokens), ("output_tokens", output_tokens)):
                    own[name] = (own.get(name, 0.0) * before + value * ended) / told[owner]
            p95 = pool.ttft.quantile(0.95)
            if p95 is not None:
                own["ttft_p95_seconds"] = p95
        self.cloud.publish(at=self.start + edge - FINE_SECONDS, engines=gauges)

    def _end_minute(self, edge: float) -> None:
        window = self._minute
        if window is None:
            raise RuntimeError("a minute without a moment")
        self._minute = None
        if edge % MINUTE_SECONDS == 0:
            self._publish_traffic(edge, window)
        self.minutes.append(self._seen(edge, window))

    def _publish_traffic(self, edge: float, window: Window) -> None:
        traffic: dict[str, Traffic] = {}
        for name, pool in zip(self._pools, window.pools, strict=True):
            mean = pool.ttft_mean_seconds
            traffic[self._arns[name]] = Traffic(pool.routed, None if mean is None else mean * pool.routed)
        unserved = window.unrouted + sum(pool.rejected_no_target for pool in window.pools)
        self.cloud.publish(
            at=self.start + edge - MINUTE_SECONDS,
            traffic=traffic,
            rejected={self._bindings["load_balancer"]: unserved},
        )

    def _seen(self, edge: float, window: Window) -> MinuteOfReplay:
        described = self.cloud.client("autoscaling").describe_auto_scaling_groups(
            AutoScalingGroupNames=list(self._groups.values())
        )["AutoScalingGroups"]
        desired = {group["AutoScalingGroupName"]: int(group["DesiredCapacity"]) for group in described}
        pools = {
            name: PoolMinute(
                desired=desired[self._groups[name]],
                ready=self.fleet.count(name, Phase.READY),
                starting=self.fleet.count(name, Phase.STARTING),
                draining=self.fleet.count(name, Phase.DRAINING),
                weight=self._weights[name],
            )
            for name in self._pools
        }
        rps = {pool.name: pool.throughput_rps for pool in self.service.pools}
        total = window.total
        forecast = self._newest.signals.get("forecast_rps") if self._newest else None
        return MinuteOfReplay(
            at=edge,
            arrivals_rps=(total.routed + total.rejected_no_target) / (window.end - window.start),
            capacity_rps=sum(one.ready * rps[name] for name, one in pools.items()),
            ordered_rps=sum((one.ready + one.starting) * rps[name] for name, one in pools.items()),
            forecast_rps=None if forecast is None else float(forecast),
            running=total.running,
            waiting=total.waiting,
            ended=total.ended,
            attained=total.attained,
            rejected=total.rejected,
            lost=total.lost,
            ttft_p50_seconds=total.ttft.quantile(0.5),
            ttft_p95_seconds=total.ttft.quantile(0.95),
            tpot_p95_seconds=total.tpot.quantile(0.95),
            usd_per_hour=self.fleet.usd_per_hour,
            pools=pools,
        )

    # --- the end ---

    @property
    def so_far(self) -> PoolWindow:
        """All pools together, since the trace's start. Raises RuntimeError before the first step."""
        if self._total is None:
            raise RuntimeError("nothing has happened yet")
        return self._total.total

    def result(self) -> ReplayResult:
        """Let the requests that are there end, with the fleet as it stands and nobody new, and sum up.

        The bill ends with the trace. What has not ended after an hour counts as lost.
        """
        bill = self.fleet.bill(self.now)
        simulation = self.simulation
        if self.span_seconds >= self._source.span_seconds:
            # A trace's last request often is its last moment, which `run` up to its end leaves out.
            last = float(np.nextafter(simulation.now, np.inf))
            simulation.run(last, *self._feed.take(last))
        latest = simulation.now + FINISHES_WITHIN_SECONDS
        while simulation.in_flight and simulation.now < latest:
            simulation.run(min(latest, simulation.now + MINUTE_SECONDS))
        for number, _ in list(simulation.loads()):
            simulation.kill(number)
        window = simulation.window()
        self._total = window if self._total is None else self._total.then(window)
        total = self._total.total
        return ReplayResult(
            service=self.service.name,
            start=self.start,
            span_seconds=self.span_seconds,
            minutes=tuple(self.minutes),
            invocations=tuple(self.invocations),
            requests=total.ended,
            slo_attainment=1.0 if total.slo_attainment is None else total.slo_attainment,
            cost_usd=sum(bill.usd.values()),
            usd_by_pool=bill.usd,
            machine_hours={name: seconds / 3600 for name, seconds in bill.seconds.items()},
            gpu_hours=sum(seconds * self._hardware[name].gpus for name, seconds in bill.seconds.items()) / 3600,
            lost=total.lost,
            lost_to_scale_in=self.fleet.lost.get(Change.GONE, 0),
            rejected=total.rejected,
            launches=self.fleet.launches,
            p50_ttft_seconds=total.ttft.quantile(0.5),
            p95_ttft_seconds=total.ttft.quantile(0.95),
            mean_input_tokens=total.input_tokens / total.completed if total.completed else 0.0,
        )


def until_told(_: str) -> None:
    """For `drain_seconds` of the cloud: an instance drains until its last simulated request has ended."""


def _add(gauges: dict[str, float], name: str, value: float) -> None:
    gauges[name] = gauges.get(name, 0.0) + value


def _by_work(service: Service, counts: Mapping[str, int]) -> dict[str, int]:
    """Weights 0 to 100 in proportion to what each pool's instances complete."""
    work = {pool.name: counts[pool.name] * pool.throughput_rps for pool in service.pools}
    most = max(work.values())
    return {name: round(100 * value / most) if most > 0 else 100 for name, value in work.items()}
