"""The replay: traffic, engines, metrics and the real handler, step by step in virtual time."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from gpu_fleet.emulator import Change, EmbeddedCloud, Traffic
from gpu_fleet.emulator.lifelike.metric_store import MetricKey
from gpu_fleet.emulator.publishing import BALANCER
from gpu_fleet.replay.alarms import Alarms
from gpu_fleet.replay.engine_fleet import EngineFleet
from gpu_fleet.replay.engine_gauges import engine_gauges
from gpu_fleet.replay.function import Invocation, LoggedDecision, ScalerFunction
from gpu_fleet.replay.hardware import Hardware, preferred
from gpu_fleet.replay.replay_cloud import DELAYS
from gpu_fleet.replay.replay_result import MinuteOfReplay, PoolMinute, ReplayResult
from gpu_fleet.replay.traffic_weights import TrafficWeights
from gpu_fleet.replay.type_changes import type_changes
from gpu_fleet.scaling import record
from gpu_fleet.scaling.observation import Phase
from gpu_fleet.scaling.service import Service
from gpu_fleet.simulator.client_affinity import Affinity, ClientPopulation
from gpu_fleet.simulator.feed import Feed
from gpu_fleet.simulator.simulation import PoolWindow, Simulation, SimulationOptions, TargetChoice, Window
from gpu_fleet.simulator.telemetry import FINE_SECONDS, MINUTE_SECONDS
from gpu_fleet.simulator.world import Source

OPENS_WITHIN_SECONDS = 3600.0
FINISHES_WITHIN_SECONDS = 3600.0
SCHEDULE: Mapping[str, Any] = {"source": "schedule"}
"""The input that the stack's schedule sends."""


@dataclass(frozen=True, slots=True)
class Opening:
    """The fleet that is ready when the traffic begins. Pools that are not named start at their minimum."""

    ready: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, int] | None = None
    """None: in proportion to the work that each pool's instances complete."""


class Replay:
    """One service of an open embedded cloud under a trace. `step` advances by a minute.

        with replay_cloud("local", root) as cloud:
            with Replay(cloud, "chat", trace, service_hardware(...)) as replay:
                result = replay.run()

    The cloud's seed also draws the requests and their routing.
    """

    def __init__(
        self, cloud: EmbeddedCloud, service: str, source: Source, hardware: Hardware, opening: Opening | None = None
    ) -> None:
        """Read the service's parameter. Raises KeyError for a service that the stack does not have."""
        parameter = cloud.services[service]
        bindings: Mapping[str, Any] = parameter["bindings"]
        self.cloud, self.service = cloud, record.load(Service, json.dumps(parameter["service"]))
        self._source, self._hardware, self._opening = source, hardware, opening or Opening()
        self._pools = [pool.name for pool in self.service.pools]
        self._groups: dict[str, str] = {name: bindings["pools"][name]["group"] for name in self._pools}
        self._target_groups: dict[str, str] = {
            name: bindings["pools"][name]["target_group_arn"] for name in self._pools
        }
        self._load_balancer: str = bindings["load_balancer"]
        self._traffic_weights = TrafficWeights(cloud, bindings)
        self._rps_by_type = {
            pool.name: {type_: kind.throughput_rps for kind in pool.kinds for type_ in kind.types}
            for pool in self.service.pools
        }
        self.span_seconds = source.span_seconds
        self.start = 0.0
        """The trace's start, seconds since the epoch; set on opening."""
        self.minutes: list[MinuteOfReplay] = []
        self.invocations: list[Invocation] = []
        self._feed = Feed(source, cloud.options.seed)
        self.fleet: EngineFleet
        self.simulation: Simulation
        self._function: ScalerFunction
        self._alarms: Alarms
        self._weights: dict[str, int] = {}
        self._minute: Window | None = None
        self._total: Window | None = None
        self._newest: LoggedDecision | None = None
        self._open = contextlib.ExitStack()

    # --- the opening ---

    def __enter__(self) -> Self:
        """Start the opening fleet, then the function, cold. Raises RuntimeError where the fleet does not get ready.

        Metrics of this time are dropped, so that the scaler starts without a past, like that of a new service.
        """
        cloud = self.cloud
        # A group launches its first instances a second after it is made, and time stands still while the program runs:
        # the fleet sees every launch.
        self.fleet = EngineFleet(cloud, self.service, self._groups, self._hardware)
        with contextlib.ExitStack() as opening:
            self._bring_up()
            self.start = cloud.now
            # By then the load balancer's metrics of the time before the start have arrived; no engine published any.
            self._drop_metrics_until(self.start + DELAYS.minute_seconds)
            self.simulation = self._new_simulation()
            self.fleet.begin(self.simulation, self.start)
            self._function = opening.enter_context(ScalerFunction(cloud))
            self._alarms = Alarms(cloud, self._function.arn)
            cloud.lifelike.events.functions[self._function.arn] = lambda event: self._invoke(event, "notice")
            opening.callback(cloud.lifelike.events.functions.pop, self._function.arn)
            self._route_by_rule()
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the function's environment; the cloud stays open."""
        self._open.close()

    def _bring_up(self) -> None:
        autoscaling = self.cloud.client("autoscaling")
        counts = {
            pool.name: max(pool.min_instances, self._opening.ready.get(pool.name, 0)) for pool in self.service.pools
        }
        for name, count in counts.items():
            autoscaling.set_desired_capacity(AutoScalingGroupName=self._groups[name], DesiredCapacity=count)
        self._traffic_weights.write(self._opening.weights or _weights_by_work(self.service, counts))
        latest = self.cloud.now + OPENS_WITHIN_SECONDS
        while True:
            self.cloud.advance(MINUTE_SECONDS * (self.cloud.now // MINUTE_SECONDS + 1))
            if all(self.fleet.count(name, Phase.READY) == count for name, count in counts.items()):
                return
            if self.cloud.now > latest:
                raise RuntimeError(f"no {counts} became ready within {OPENS_WITHIN_SECONDS:g} s")

    def _drop_metrics_until(self, end: float) -> None:
        def dropped(key: MetricKey) -> bool:
            return key[0] == BALANCER and self.cloud.now <= end

        self.cloud.metrics.series.clear()
        self.cloud.metrics.lost.append(dropped)

    def _new_simulation(self) -> Simulation:
        engines = [preferred(self._hardware, name).engine for name in self._pools]
        others = dict.fromkeys(one.engine for name in self._pools for one in self._hardware[name].values())
        return Simulation(
            engines,
            more_engines=[engine for engine in others if engine not in engines],
            slo=self.service.policy.slo,
            seed=self.cloud.options.seed,
            sample_seconds=FINE_SECONDS,
            options=SimulationOptions(
                affinity=Affinity.of(self.service.policy.routing, ClientPopulation()),
                target_choice=TargetChoice.of(self._traffic_weights.algorithm),
            ),
        )

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
        """Replay one minute: its traffic, the alarms every 10 s, and the scaler's scheduled run at the end."""
        end = min(self.span_seconds, MINUTE_SECONDS * (len(self.minutes) + 1))
        while self.now < end:
            edge = min(end, FINE_SECONDS * (self.now // FINE_SECONDS + 1))
            whole = edge % FINE_SECONDS == 0
            self._serve(edge, publish=whole)
            if whole and edge < end:
                self._invoke_by_alarms()
        self._end_minute(end)
        if end < self.span_seconds:
            self._invoke(SCHEDULE, "schedule")
            self._invoke_by_alarms()

    def _invoke_by_alarms(self) -> None:
        for event in self._alarms.fired(self.cloud.now):
            self._invoke(event, "alarm")

    def _invoke(self, event: Mapping[str, Any], trigger: str) -> None:
        invocation = self._function.invoke(event, trigger)
        self.invocations.append(invocation)
        self._newest = next((one for one in invocation.decisions if one.service == self.service.name), self._newest)
        self._route_by_rule()

    def _route_by_rule(self) -> None:
        weights = self._traffic_weights.read()
        if weights != self._weights:
            self._weights = weights
            self.simulation.set_weights([float(weights[name]) for name in self._pools])
        by_digit = self._traffic_weights.read_by_digit()
        if by_digit:
            self.simulation.set_hash_weights([[one[name] for name in self._pools] for one in by_digit])

    def _serve(self, edge: float, *, publish: bool) -> None:
        """Advance cloud and simulation to `edge` (seconds from the start).

        The cloud goes first, so that the simulation knows every change of an instance before it happens.
        """
        self.cloud.advance(self.start + edge)
        self.simulation.run(edge, *self._feed.take(edge))
        self.fleet.settle()
        window = self.simulation.window()
        self._minute = window if self._minute is None else self._minute.then(window)
        self._add_to_total(window)
        if publish:
            (sample,) = self.simulation.samples()
            gauges = engine_gauges(sample, window, self.fleet)
            self.cloud.publish(at=self.start + edge - FINE_SECONDS, engines=gauges)

    def _add_to_total(self, window: Window) -> Window:
        self._total = window if self._total is None else self._total.then(window)
        return self._total

    def _end_minute(self, edge: float) -> None:
        window = self._minute
        if window is None:
            raise RuntimeError("the minute has no time in it")
        self._minute = None
        if edge % MINUTE_SECONDS == 0:
            self._publish_traffic(edge, window)
        self.minutes.append(self._minute_of(edge, window))

    def _publish_traffic(self, edge: float, window: Window) -> None:
        traffic: dict[str, Traffic] = {}
        for name, pool in zip(self._pools, window.pools, strict=True):
            mean = pool.response_mean_seconds
            traffic[self._target_groups[name]] = Traffic(
                pool.routed, pool.rejected_queue_full, None if mean is None else mean * pool.routed
            )
        unserved = window.unrouted + sum(pool.rejected_no_target for pool in window.pools)
        self.cloud.publish(
            at=self.start + edge - MINUTE_SECONDS, traffic=traffic, rejected={self._load_balancer: unserved}
        )

    def _minute_of(self, edge: float, window: Window) -> MinuteOfReplay:
        total = window.total
        forecast = self._newest.signals.get("forecast_rps") if self._newest else None
        return MinuteOfReplay(
            at=edge,
            arrivals_rps=(total.routed + total.rejected_no_target) / (window.end - window.start),
            capacity_rps=self._capacity_rps(Phase.READY),
            ordered_rps=self._capacity_rps(Phase.READY, Phase.STARTING),
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
            pools=self._pool_minutes(),
        )

    def _capacity_rps(self, *phases: Phase) -> float:
        return sum(
            count * self._rps_by_type[name][type_]
            for name in self._pools
            for type_, count in self.fleet.types(name, *phases).items()
        )

    def _pool_minutes(self) -> dict[str, PoolMinute]:
        groups = self.cloud.client("autoscaling").describe_auto_scaling_groups(
            AutoScalingGroupNames=list(self._groups.values())
        )["AutoScalingGroups"]
        desired = {group["AutoScalingGroupName"]: int(group["DesiredCapacity"]) for group in groups}
        return {
            name: PoolMinute(
                desired=desired[self._groups[name]],
                ready=self.fleet.count(name, Phase.READY),
                starting=self.fleet.count(name, Phase.STARTING),
                draining=self.fleet.count(name, Phase.DRAINING),
                weight=self._weights[name],
                ready_by_type=self.fleet.types(name, Phase.READY),
            )
            for name in self._pools
        }

    # --- the end ---

    @property
    def so_far(self) -> PoolWindow:
        """All pools together, since the trace's start. Raises RuntimeError before the first step."""
        if self._total is None:
            raise RuntimeError("nothing has happened yet")
        return self._total.total

    def result(self) -> ReplayResult:
        """Let the requests under way end on the fleet as it is, and sum up.

        The bill ends with the trace. Requests that have not ended an hour later are lost.
        """
        end = self.now
        bill, gpu_hours = self.fleet.bill(end), self.fleet.gpu_hours(end)
        changes = type_changes(self.cloud, self._groups, self.start)
        total = self._finish_requests().total
        return ReplayResult(
            service=self.service.name,
            start=self.start,
            span_seconds=self.span_seconds,
            minutes=tuple(self.minutes),
            invocations=tuple(self.invocations),
            type_changes=changes,
            requests=total.ended,
            slo_attainment=1.0 if total.slo_attainment is None else total.slo_attainment,
            cost_usd=sum(bill.usd.values()),
            usd_by_pool=bill.usd,
            launch_usd=sum(bill.launch_usd.values()),
            machine_hours={name: seconds / 3600 for name, seconds in bill.seconds.items()},
            gpu_hours=gpu_hours,
            lost=total.lost,
            lost_to_scale_in=self.fleet.lost.get(Change.GONE, 0),
            rejected=total.rejected,
            launches=self.fleet.launches,
            p50_ttft_seconds=total.ttft.quantile(0.5),
            p95_ttft_seconds=total.ttft.quantile(0.95),
            mean_input_tokens=total.input_tokens / total.completed if total.completed else 0.0,
        )

    def _finish_requests(self) -> Window:
        simulation = self.simulation
        # A trace's last request often is its last moment, which `run` up to the end leaves out.
        last = float(np.nextafter(simulation.now, np.inf))
        simulation.run(last, *self._feed.take(last))
        latest = simulation.now + FINISHES_WITHIN_SECONDS
        while simulation.in_flight and simulation.now < latest:
            simulation.run(min(latest, simulation.now + MINUTE_SECONDS))
        for number, _ in list(simulation.loads()):
            simulation.kill(number)
        return self._add_to_total(simulation.window())


def _weights_by_work(service: Service, counts: Mapping[str, int]) -> dict[str, int]:
    """Return weights from 0 to 100 in proportion to the work that each pool's instances complete."""
    work = {pool.name: counts[pool.name] * pool.throughput_rps for pool in service.pools}
    most = max(work.values())
    return {name: round(100 * value / most) if most > 0 else 100 for name, value in work.items()}
