"""Machines, bill and metrics of the world, and a scaling rule run in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.config.engines import QueueOption
from gpu_fleet.scaling.boot import NODE_PHASES, Boot
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation, Phase, Reading
from gpu_fleet.scaling.policy import Overload, Workload
from gpu_fleet.scaling.queue_limit import queue_limit
from gpu_fleet.scaling.service import Service
from gpu_fleet.simulator.drive import run
from gpu_fleet.simulator.simulated_fleet import BootTime, CapacityShortage, Faults, MachineModel
from gpu_fleet.simulator.telemetry import Delays
from gpu_fleet.simulator.world import START, World, WorldOptions

from .conftest import PROFILE, Requests, make_service

Make = Callable[..., World]


def at(seconds: float) -> float:
    return START + seconds


def phases(world: World, pool: str = "small") -> list[str]:
    return [instance.phase.value for instance in world.observe(world.now).pools[pool].instances]


def small(count: int, **keys: object) -> dict[str, PoolTarget]:
    return {"small": PoolTarget(count, 100, **keys)}  # type: ignore[arg-type]


# --- boot and bill ---


def test_a_machine_serves_only_after_its_boot(world: Make) -> None:
    w = world(boot=BootTime(300.0))
    w.run(at(60))
    w.apply(small(5), w.now)
    w.run(at(359))
    assert phases(w) == ["ready"] * 4 + ["starting"]
    w.run(at(361))
    assert phases(w) == ["ready"] * 5
    launched = w.observe(w.now).pools["small"].instances[-1]
    assert (launched.since, launched.ready_at) == (at(60), at(360))


PHASES = Boot(running=30, agent=60, image=100, weights=50, engine=40, healthy=20)


def test_a_machine_boots_by_its_phases_and_tells_them(world: Make) -> None:
    w = world(phases={"small": PHASES})
    w.run(at(60))
    w.apply(small(5), w.now)
    w.run(at(359))
    assert w.observe(w.now).pools["small"].boot_seconds == {}
    w.run(at(361))
    assert phases(w) == ["ready"] * 5
    told = w.observe(w.now).pools["small"].boot_seconds
    expected = PHASES.by_phase
    assert told == {phase: Reading(expected[phase], at(360)) for phase in NODE_PHASES}


def test_a_slow_boot_is_slow_in_each_phase(world: Make) -> None:
    w = world(phases={"small": PHASES}, boot=BootTime(300.0, slow_share=1.0, slow_factor=2.0))
    w.run(at(60))
    w.apply(small(5), w.now)
    w.run(at(661))
    told = w.observe(w.now).pools["small"].boot_seconds
    assert told["image"] == Reading(200.0, at(660))
    assert w.observe(w.now).pools["big"].boot_seconds == {}


def test_machines_are_billed_by_the_second_from_launch_to_their_end(world: Make) -> None:
    w = world(Requests.none(3600.0), boot=BootTime(100.0), initial={"small": 1})
    w.run(at(600))
    w.apply(small(3), w.now)
    w.run(at(1000))
    w.apply(small(1), w.now)
    w.run(at(3600))
    # One for the hour; two from 600 to 1000, empty, so gone at once. At 1 USD an hour.
    assert w.totals.machine_seconds == {"small": 3600 + 2 * 400}
    assert w.totals.cost_usd == pytest.approx((3600 + 800) / 3600)


def test_a_launch_is_billed_beside_the_machines_time(world: Make) -> None:
    """The machines that the run starts with were launched before it."""
    service = make_service(launch_usd=0.95)
    w = world(Requests.none(3600.0), service, boot=BootTime(100.0), initial={"small": 1})
    w.run(at(600))
    w.apply(small(3), w.now)
    w.run(at(3600))
    assert w.totals.launch_usd == pytest.approx(2 * 0.95)
    assert w.totals.cost_usd == pytest.approx((3600 + 2 * 3000) / 3600 + 2 * 0.95)


def test_the_first_minute_is_billed_whole(world: Make) -> None:
    w = world(Requests.none(600.0), initial={"small": 1}, boot=BootTime(300.0))
    w.run(at(60))
    w.apply(small(2), w.now)
    w.run(at(70))
    w.apply(small(1), w.now)
    w.run(at(600))
    assert w.totals.machine_seconds == {"small": 600 + 60}


def test_a_draining_machine_is_billed_until_its_last_request(world: Make) -> None:
    # 800 tokens in: 0.11 s. 9001 tokens out: 9000 steps of 20.6 ms, 185.4 s.
    source = Requests(np.array([100.0]), 3600.0, output_tokens=9001.0)
    w = world(source, initial={"small": 1, "big": 1}, initial_weights={"small": 1, "big": 0})
    w.run(at(120))
    w.apply({"small": PoolTarget(0, 0), "big": PoolTarget(1, 1)}, w.now)
    w.run(at(600))
    assert w.totals.machine_seconds["small"] == pytest.approx(100 + 0.11 + 185.4, abs=1.0)
    assert w.totals.window.total.completed == 1


def test_a_drain_that_takes_too_long_loses_the_remaining_requests(world: Make) -> None:
    source = Requests(np.array([100.0]), 3600.0, output_tokens=50_000.0)
    w = world(source, initial={"small": 1})
    w.run(at(120))
    w.apply(small(0), w.now)
    assert phases(w) == ["draining"]
    w.run(at(600))
    assert phases(w) == []
    assert w.totals.window.total.lost == 1
    assert w.totals.machine_seconds["small"] == 120 + 300  # busy_max_drain_seconds


def test_lognormal_boots_have_the_given_quantiles() -> None:
    random = np.random.default_rng(1)
    seconds = np.array([BootTime(200.0, 500.0).draw(random)[0] for _ in range(20_000)])
    assert np.quantile(seconds, 0.5) == pytest.approx(200, rel=0.02)
    assert np.quantile(seconds, 0.99) == pytest.approx(500, rel=0.05)


def test_slow_and_failed_launches_are_replaced_by_the_group(world: Make) -> None:
    w = world(
        Requests.none(7200.0), initial={"small": 1},
        boot=BootTime(100.0, failed_share=0.5, failed_after_seconds=200.0, slow_share=0.3), world_seed=5,
    )  # fmt: skip
    w.run(at(60))
    w.apply(small(20), w.now)
    w.run(at(7200))
    assert phases(w) == ["ready"] * 20
    totals = w.totals
    assert totals.failed_launches > 5
    assert totals.launches == 19 + totals.failed_launches


def test_an_invalid_boot_time_is_refused() -> None:
    with pytest.raises(ValueError, match=r"p99_seconds: must be at least p50_seconds \(300\.0\) \(got 200\)"):
        BootTime(300.0, 200)
    with pytest.raises(ValueError, match="failed_share: must be from 0 to 1"):
        BootTime(failed_share=2)


# --- scale in ---


def test_named_instances_leave_first_then_the_newest(world: Make) -> None:
    w = world(Requests.none(3600.0), boot=BootTime(10.0))
    w.run(at(60))
    w.apply(small(6), w.now)
    w.run(at(120))
    ids = [instance.id for instance in w.observe(w.now).pools["small"].instances]
    w.apply(small(3, take=(ids[0],)), w.now)
    w.run(at(130))
    assert [i.id for i in w.observe(w.now).pools["small"].instances] == ids[1:4]


def test_protected_instances_stay(world: Make) -> None:
    w = world(Requests.none(3600.0))
    w.run(at(60))
    ids = [instance.id for instance in w.observe(w.now).pools["small"].instances]
    w.apply(small(2, protect=tuple(ids[2:])), w.now)
    w.run(at(70))
    assert [i.id for i in w.observe(w.now).pools["small"].instances] == ids[2:]


def test_applying_the_same_targets_twice_changes_nothing_more(world: Make) -> None:
    w = world()
    w.run(at(60))
    ids = [instance.id for instance in w.observe(w.now).pools["small"].instances]
    targets = small(3, take=(ids[1],))
    w.apply(targets, w.now)
    before = w.observe(w.now)
    w.apply(targets, w.now)
    assert w.observe(w.now) == before
    assert w.totals.scale_events == 1


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"small": PoolTarget(1, 1), "none": PoolTarget(1, 1)}, r"must name pools of the service .* \(got none\)"),
        ({"small": PoolTarget(1, 1), "big": PoolTarget(41, 1)}, r"big.desired: must be from 0 to 40 \(got 41\)"),
        ({"small": PoolTarget(1, 1), "big": PoolTarget(1, 1000)}, r"targets.big.weight: must be from 0 to 999"),
    ],
)
def test_targets_that_aws_would_refuse_change_nothing(
    world: Make, targets: Mapping[str, PoolTarget], message: str
) -> None:
    w = world()
    w.run(at(60))
    before = w.observe(w.now)
    with pytest.raises(ValueError, match=message):
        w.apply(targets, w.now)
    assert w.observe(w.now) == before


# --- faults ---


def test_a_shortage_delays_launches_and_is_observed(world: Make) -> None:
    faults = Faults(shortages=(CapacityShortage("small", 0.0, 400.0),))
    w = world(Requests.none(3600.0), faults=faults, boot=BootTime(10.0))
    w.run(at(60))
    w.apply(small(6), w.now)
    w.run(at(400))
    seen = w.observe(w.now).pools["small"]
    assert len(seen.instances) == 4
    assert [error.at for error in seen.capacity_errors] == [at(t) for t in (60, 120, 180, 240, 300, 360)]
    w.run(at(500))
    assert phases(w) == ["ready"] * 6


def test_a_shortage_in_one_zone_moves_launches_to_the_others(world: Make) -> None:
    faults = Faults(shortages=(CapacityShortage("small", 0.0, 9e9, zone="a"),))
    service = make_service(zones=("a", "b"))
    w = world(Requests.none(3600.0), service, faults=faults, boot=BootTime(10.0), initial={"small": 0})
    w.run(at(60))
    w.apply(small(3), w.now)
    seen = w.observe(w.now).pools["small"]
    assert [instance.zone for instance in seen.instances] == ["b"] * 3
    assert {error.zone for error in seen.capacity_errors} == {"a"}


def test_the_spot_share_is_kept_above_the_on_demand_base(world: Make) -> None:
    service = make_service(spot_percent=50, on_demand_base=2, spot_usd_per_hour=0.4)
    w = world(Requests.none(3600.0), service, initial={"small": 0}, boot=BootTime(10.0))
    w.run(at(60))
    w.apply(small(7), w.now)
    spot = [instance.spot for instance in w.observe(w.now).pools["small"].instances]
    # 2 of the base, and of 5 above it half on demand, rounded up: 3.
    assert (spot.count(False), spot.count(True)) == (5, 2)
    w.run(at(3600))
    assert w.totals.cost_usd == pytest.approx((5 * 1.0 + 2 * 0.4) * 3540 / 3600)


def test_an_interrupted_spot_instance_drains_for_two_minutes_and_is_replaced(world: Make) -> None:
    service = make_service(spot_percent=100, spot_usd_per_hour=0.4)
    source = Requests(np.arange(0.0, 3600.0, 2.0), 3600.0, output_tokens=20_000.0)
    w = world(source, service, faults=Faults(interruptions_per_hour=2.0), boot=BootTime(60.0), world_seed=2)
    seen: set[Phase] = set()
    while w.now < w.ends:
        w.run(w.now + 30)
        seen |= {instance.phase for instance in w.observe(w.now).pools["small"].instances}
    totals = w.totals
    assert totals.interruptions > 3
    assert totals.launches == totals.interruptions
    # Answers of 7 minutes do not end within the notice.
    assert totals.window.total.lost > 0
    assert Phase.DRAINING in seen


def test_a_failed_instance_loses_its_requests_and_is_unhealthy_until_replaced(world: Make) -> None:
    w = world(faults=Faults(failures_per_hour=3.0, detection_seconds=60.0), boot=BootTime(60.0), world_seed=1)
    seen: set[Phase] = set()
    while w.now < w.ends:
        w.run(w.now + 10)
        seen |= {instance.phase for instance in w.observe(w.now).pools["small"].instances}
    assert w.totals.failures > 3
    assert w.totals.window.total.lost > 0
    assert Phase.UNHEALTHY in seen
    assert len(w.observe(w.now).pools["small"].instances) == 4


# --- metrics ---


def test_a_minute_can_be_read_only_after_its_delay(world: Make) -> None:
    at_times = np.concatenate([np.linspace(0, 59, 60), np.linspace(60, 119, 120)])
    w = world(Requests(at_times, 3600.0), delays=Delays(minute_seconds=60.0, fine_seconds=30.0))
    w.run(at(60))
    assert w.observe(w.now).arrivals_rps is None
    w.run(at(119))
    assert w.observe(w.now).arrivals_rps is None
    for now, value, end in ((120, 1.0, 60), (179, 1.0, 60), (180, 2.0, 120), (240, 0.0, 180)):
        w.run(at(now))
        reading = w.observe(w.now).arrivals_rps
        assert reading is not None
        assert (reading.value, reading.at) == (value, at(end))


def test_engine_metrics_arrive_sooner(world: Make) -> None:
    w = world(delays=Delays(60.0, 30.0))
    w.run(at(300))
    seen = w.observe(w.now)
    assert seen.pools["small"].running is not None
    assert seen.pools["small"].running.at == at(270)
    assert seen.pools["small"].ttft_seconds is not None
    # Half of the minute that ends now has arrived, and CloudWatch shows it as that minute.
    assert seen.pools["small"].ttft_seconds.at == at(300)
    assert seen.burst_rps is not None
    assert seen.burst_rps.at == at(270)


def test_the_part_of_the_newest_minute_that_has_arrived_is_shown(world: Make) -> None:
    """Two requests a second in the first half of each minute, none in the second: at the minute's end, 30 s before
    all of it has arrived, its engines look as busy as they were in the first half."""
    seconds = np.arange(0, 600, 0.5)
    w = world(Requests(seconds[seconds % 60 < 30], 600.0), delays=Delays(60.0, 30.0))
    w.run(at(300))
    first_half = w.observe(w.now).pools["small"].gpu_percent
    w.run(at(330))
    whole = w.observe(w.now).pools["small"].gpu_percent
    assert first_half is not None
    assert whole is not None
    assert first_half.at == whole.at == at(300)
    assert first_half.value > whole.value


def test_the_share_of_late_requests_is_the_truth_as_late_as_it_comes(world: Make) -> None:
    """Three instances at 91 % of what they complete: the minutes add up to the 8 % that missed the SLO."""
    source = Requests.poisson(9.0, 1800.0)
    prompt, delayed = (world(source, initial={"small": 3}, delays=Delays(60.0, fine)) for fine in (0.0, 30.0))
    late = ended = 0.0
    for minute in range(60, 1800, 60):
        total = prompt.run(at(minute)).total
        seen = prompt.observe(prompt.now).late_share
        assert seen is not None
        delayed.run(at(minute + 30))
        assert seen == delayed.observe(delayed.now).late_share == Reading(seen.value, at(minute))
        late, ended = late + seen.value * total.completed, ended + total.completed
    attainment = prompt.totals.window.total.slo_attainment
    assert attainment is not None
    assert attainment < 0.95
    assert late / ended == pytest.approx(1 - attainment)


def test_load_is_the_running_and_waiting_requests_of_the_pool(world: Make) -> None:
    w = world(Requests.poisson(8.0, 3600.0))
    w.run(at(600))
    before = w.run(at(1200)).pools[0]
    seen = w.observe(w.now).pools["small"]
    assert seen.load is not None
    assert seen.running is not None
    assert seen.load.value == pytest.approx(before.running + before.waiting, rel=0.35)
    assert seen.load.value == pytest.approx(seen.running.value + (seen.waiting.value if seen.waiting else 0))


def test_a_pool_without_instances_has_zero_load_as_one_without_traffic_has(world: Make) -> None:
    w = world(initial={"small": 2, "big": 1}, initial_weights={"small": 1, "big": 0})
    w.run(at(300))
    seen = w.observe(w.now).pools
    assert seen["big"].rate_rps is not None
    assert seen["big"].rate_rps.value == 0.0
    assert seen["big"].load is not None
    w.apply({"big": PoolTarget(0, 0)}, w.now)
    w.run(at(600))
    big = w.observe(w.now).pools["big"]
    assert [r.value for r in (big.rate_rps, big.load, big.running) if r is not None] == [0.0, 0.0, 0.0]
    assert (big.gpu_percent, big.kv_cache_percent, big.ttft_seconds) == (None, None, None)


def test_a_pool_that_only_drains_has_no_load_and_hides_no_burst(world: Make) -> None:
    w = world(initial={"small": 2, "big": 1}, initial_weights={"small": 1, "big": 1})
    w.run(at(300))
    w.apply({"big": PoolTarget(0, 0)}, w.now)
    assert [machine.phase for machine in w.groups["big"].machines.values()] == [Phase.DRAINING]
    seen = w.observe(w.now)
    load = seen.pools["big"].load
    assert load is not None
    assert (load.value, load.at) == (0.0, at(300))
    assert seen.burst_rps is not None


def test_the_burst_is_the_rate_of_the_newest_ten_seconds(world: Make) -> None:
    # One a second, and from 250 s on twelve: at 290 s what is read is (250, 260].
    at_times = np.sort(np.concatenate([np.arange(0.5, 3600.0), np.arange(250.0, 300.0, 1 / 11)]))
    w = world(Requests(at_times, 3600.0))
    for now, value in ((280, 1.0), (290, 12.0), (330, 12.0), (340, 1.0)):
        w.run(at(now))
        seen = w.observe(w.now).burst_rps
        assert seen is not None
        assert (seen.value, seen.at) == (pytest.approx(value, abs=0.11), at(now - 30))


def test_a_service_that_cannot_sleep_reports_no_rejections(world: Make) -> None:
    w = world(Requests.poisson(2.0, 3600.0), make_service(min_instances=1), initial={"small": 2, "big": 1})
    w.run(at(300))
    assert w.observe(w.now).rejected_rps is None


def test_requests_without_a_target_are_the_waking_signal(world: Make) -> None:
    w = world(Requests.poisson(2.0, 3600.0), initial={"small": 0})
    w.run(at(300))
    seen = w.observe(w.now)
    assert seen.rejected_rps is not None
    assert seen.rejected_rps.value == pytest.approx(2.0, abs=0.5)
    assert seen.arrivals_rps is not None
    assert seen.arrivals_rps.value == 0.0
    assert w.totals.window.total.slo_attainment == 0.0


def test_in_a_gap_of_the_metrics_readings_are_missing_not_zero(world: Make) -> None:
    w = world(faults=Faults(metric_gaps=((120.0, 1200.0),)))
    w.run(at(900))
    seen = w.observe(w.now)
    assert (seen.arrivals_rps, seen.burst_rps, seen.rejected_rps, seen.input_tokens) == (None, None, None, None)
    assert seen.pools["small"].load is None
    assert len(seen.pools["small"].instances) == 4
    w.run(at(1500))
    assert w.observe(w.now).arrivals_rps is not None


def test_instance_loads_are_observed_only_on_request(world: Make) -> None:
    w = world(Requests.poisson(8.0, 3600.0))
    w.run(at(300))
    assert all(i.load is None for i in w.observe(w.now).pools["small"].instances)
    pool = w.observe(w.now, instance_loads=True).pools["small"]
    loads = [i.load for i in pool.instances]
    # The minute that ends now, as far as it has arrived; the pool's own load is of the minute up to 270 s.
    assert all(load is not None and load.at == at(300) for load in loads)
    w.run(at(330))
    pool = w.observe(w.now, instance_loads=True).pools["small"]
    assert pool.load is not None
    assert pool.load.at == at(300)
    assert sum(i.load.value for i in pool.instances if i.load) == pytest.approx(pool.load.value)


def test_a_draining_instance_is_not_in_the_pools_kv_cache_use(world: Make) -> None:
    """Answers of some 5 minutes: two instances fill up while the one that leaves empties."""
    arrivals = Requests.poisson(0.1, 3600.0)
    source = Requests(arrivals.at, arrivals.span_seconds, output_tokens=10_000.0)
    w = world(source, initial={"small": 3})
    w.run(at(600))
    w.apply({"small": PoolTarget(2, 1, take=(next(iter(w.groups["small"].machines)),))}, w.now)
    w.run(at(720))
    assert w.groups["small"].count(Phase.DRAINING) == 1
    ready = [m.number for m in w.groups["small"].machines.values() if m.phase is Phase.READY]
    _, samples = w._telemetry.samples_of_minute(w.now)
    shares = [
        share
        for gauges in (sample.gauges for sample in samples)
        for number, share in zip(gauges.instance.astype(int).tolist(), gauges.kv_share.tolist(), strict=True)
        if number in ready
    ]
    assert len(shares) == 2 * len(samples) > 0
    use = w.observe(w.now).pools["small"].kv_cache_percent
    assert use is not None
    assert use.value == pytest.approx(100 * sum(shares) / len(shares))


def test_history_is_five_minute_means_of_complete_times(world: Make) -> None:
    w = world(Requests(np.arange(0.0, 3600.0, 0.5), 3600.0))
    w.run(at(1000))
    history = w.observe(w.now, history=True).history_rps
    assert [reading.at for reading in history] == [at(300), at(600), at(900)]
    assert [reading.value for reading in history] == [2.0, 2.0, 2.0]
    assert w.observe(w.now).history_rps == ()


# --- the whole ---


class Fixed:
    """Keeps what it was given."""

    def __init__(self, targets: Mapping[str, PoolTarget]) -> None:
        self.targets = targets
        self.times: list[float] = []

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        self.times.append(now)
        return self.targets


def test_a_run_accounts_for_every_request_and_every_machine(world: Make) -> None:
    source = Requests.poisson(6.0, 1800.0)
    contender = Fixed({"small": PoolTarget(6, 100)})
    result = run(world(source, boot=BootTime(300.0)), contender, 60.0)
    assert result.requests == source.at.size
    assert result.lost == result.rejected == 0
    assert result.slo_attainment > 0.9
    assert contender.times == [at(60.0 * k) for k in range(1, 30)]
    assert result.scale_events == 1
    assert result.cost_usd == pytest.approx((4 * 1800 + 2 * 1740) / 3600)
    assert result.gpu_hours == pytest.approx(result.cost_usd)  # 1 USD an hour, 1 GPU
    series = result.series
    assert series is not None
    assert series.ready[0].tolist() == [4] * 5 + [6] * 25
    assert series.starting[0].tolist() == [0] + [2] * 4 + [0] * 25
    assert series.arrivals_rps.sum() * 60 == result.requests
    assert series.ended.sum() <= result.requests


def test_an_overloaded_fleet_refuses_what_would_wait_too_long_and_serves_the_rest_in_time(world: Make) -> None:
    """Nearly twice what one instance completes in 14 places of its batch, 14 / (150 x 0.0284 s + 14 x 0.11 s) = 2.4."""
    source = Requests.poisson(4.5, 1800.0)
    service, engine = make_service(), PROFILE.model_copy(update={"max_sequences": 14})
    found = {}
    for refuse in (True, False):
        policy = service.policy.model_copy(update={"overload": Overload(refuse=refuse)})
        found[refuse] = run(
            World(service.model_copy(update={"policy": policy}), source, dict.fromkeys(("small", "big"), engine),
                  initial={"small": 1}),
            Fixed({}),
            60.0,
        )  # fmt: skip
    bounded, unbounded = found[True], found[False]
    assert bounded.requests == unbounded.requests == source.at.size
    assert (unbounded.refused, unbounded.rejected) == (0, 0)
    assert bounded.refused == bounded.rejected > 0.4 * bounded.requests
    # A refused request has missed the SLO, and has no time to first token.
    assert 0.35 < bounded.slo_attainment <= 1 - bounded.refused / bounded.requests
    assert unbounded.slo_attainment < 0.05
    assert bounded.p99_ttft_seconds == pytest.approx(3, abs=1)
    assert unbounded.p99_ttft_seconds == pytest.approx(1500, rel=0.2)


def test_an_engine_that_counts_what_waits_holds_no_more_than_that(world: Make) -> None:
    """SGLang's one option: 40 requests a second to one instance."""
    w = world(Requests.poisson(40.0, 900.0), initial={"small": 1}, queue_options=[QueueOption.SGLANG_WAITING])
    waiting = queue_limit(make_service().policy, PROFILE).waiting
    assert waiting is not None
    w.run(at(900))
    seen = w.observe(w.now).pools["small"].waiting
    assert seen is not None
    assert 0.9 * waiting < seen.value <= waiting


def test_an_engine_that_counts_nothing_refuses_nothing(world: Make) -> None:
    w = world(Requests.poisson(40.0, 300.0), initial={"small": 1}, queue_options=[])
    w.run(at(300))
    assert w.totals.window.total.rejected_queue_full == 0


def test_refused_requests_are_seen_as_demand_and_as_late(world: Make) -> None:
    """One instance under 40 requests a second: the load balancer counts all of them, the engine ends a part."""
    w = world(Requests.poisson(40.0, 900.0), initial={"small": 1})
    w.run(at(900))
    seen, pool = w.observe(w.now), w.totals.window.total
    assert pool.rejected_queue_full > 0.5 * pool.routed
    assert seen.arrivals_rps is not None
    assert seen.arrivals_rps.value == pytest.approx(40, rel=0.1)
    assert seen.engine_rps is not None
    assert seen.engine_rps.value < 20
    assert seen.matched_rps is not None
    assert seen.matched_rps.value == pytest.approx(40, rel=0.15)
    assert seen.late_share is not None
    assert seen.late_share.value > 0.5
    served = seen.pools["small"].response_time_seconds
    assert served is not None
    # As long as a request waits, though most answers come at once.
    assert served.value > 1.0


def test_a_request_at_the_traces_last_moment_is_served(world: Make) -> None:
    result = run(world(Requests(np.array([0.0, 600.0]), 600.0)), Fixed({}), 60.0)
    assert result.requests == 2
    assert result.slo_attainment == 1.0


def test_the_same_seed_gives_the_same_run(world: Make) -> None:
    def result_of(seed: int) -> tuple[object, ...]:
        faults = Faults(failures_per_hour=2.0, capacity_error_share=0.2)
        result = run(world(faults=faults, boot=BootTime(100.0, 300.0), seed=seed), Fixed(small(5)), 60.0)
        return result.slo_attainment, result.cost_usd, result.lost, result.p95_ttft_seconds

    assert result_of(1) == result_of(1)
    assert result_of(1) != result_of(2)


def test_a_world_refuses_arguments_that_do_not_fit_together(service: Service) -> None:
    source, profiles = Requests.none(60.0), {"small": PROFILE, "big": PROFILE}
    with pytest.raises(ValueError, match="profiles: must have one for pool big"):
        World(service, source, {"small": PROFILE})
    with pytest.raises(ValueError, match=r"initial: must name pools of the service \(small, big\) \(got l4\)"):
        World(service, source, profiles, initial={"l4": 1})
    with pytest.raises(ValueError, match=r"initial.small: must be from 0 to 40 \(got 41\)"):
        World(service, source, profiles, initial={"small": 41})
    with pytest.raises(ValueError, match=r"gpus: must name pools of the service \(small, big\) \(got l4\)"):
        World(service, source, profiles, machines=MachineModel(gpus={"l4": 1}))
    training = service.model_copy(update={"policy": service.policy.model_copy(update={"workload": Workload.TRAINING})})
    with pytest.raises(ValueError, match="service: must serve inference"):
        World(training, source, profiles)
    with pytest.raises(ValueError, match="start: must be a whole minute"):
        World(service, source, profiles, options=WorldOptions(start=START + 1))


@given(
    counts=st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10), st.integers(0, 100)), min_size=1, max_size=15),
    seed=st.integers(0, 100),
    failures=st.sampled_from([0.0, 4.0]),
    errors=st.sampled_from([0.0, 0.3]),
)
@settings(max_examples=25, deadline=None)
def test_the_books_balance_for_every_decision(
    counts: list[tuple[int, int, int]], seed: int, failures: float, errors: float
) -> None:
    source = Requests.poisson(5.0, 60.0 * (len(counts) + 1), seed)
    service = make_service(spot_percent=30, on_demand_base=1, spot_usd_per_hour=0.4)
    w = World(
        service,
        source,
        {"small": PROFILE, "big": PROFILE},
        initial={"small": 3},
        machines=MachineModel(
            boot=BootTime(70.0, 200.0, failed_share=0.1, failed_after_seconds=100.0),
            faults=Faults(failures_per_hour=failures, interruptions_per_hour=failures, capacity_error_share=errors),
        ),
        options=WorldOptions(seed=seed),
    )
    for small_count, big_count, weight in counts:
        w.run(w.now + 60)
        w.apply({"small": PoolTarget(small_count, 100 - weight), "big": PoolTarget(big_count, weight)}, w.now)
        seen = w.observe(w.now, instance_loads=True, history=True)
        for name, wanted in (("small", small_count), ("big", big_count)):
            standing = [i for i in seen.pools[name].instances if i.phase is not Phase.DRAINING]
            assert len(standing) <= wanted
            assert errors or len(standing) == wanted
            ready = sum(i.phase is Phase.READY for i in standing)
            assert ready == w.simulation.targets(["small", "big"].index(name))
    w.run(w.ends)
    w.finish()
    total = w.totals.window.total
    assert total.ended == source.at.size
    assert w.simulation.in_flight == 0
    assert w.totals.cost_usd > 0
