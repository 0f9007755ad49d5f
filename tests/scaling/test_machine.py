"""The model driven through random worlds: whatever happens, what is promised holds after every decision."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.decision import Decision
from gpu_fleet.scaling.observation import Observation, Phase, current
from gpu_fleet.scaling.record import dump, load
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.scaling.state import State
from tests.scaling.builders import NOW, pool, service
from tests.scaling.world import World, applied, busier

STATE_BYTES = 60_000
"""A DynamoDB item holds 400 kB, and each minute writes one: 60 kB are 60 write units."""

POOLS: dict[str, dict[str, Any]] = {
    "l4": {"min_instances": 0, "zones": ("a", "b", "c"), "slowdown": 2.0},
    "l40s": {
        "min_instances": 0,
        "throughput_rps": 5.0,
        "capacity": 50.0,
        "on_demand_usd_per_hour": 1.7,
        "zones": ("a", "b", "c"),
        "spot_percent": 50,
        "spot_usd_per_hour": 0.6,
    },
    "h100": {
        "min_instances": 0,
        "max_instances": 5,
        "throughput_rps": 18.0,
        "capacity": 120.0,
        "slowdown": 3.0,
        "service_seconds": 120 / 18,
        "on_demand_usd_per_hour": 7.0,
        "zones": ("a", "b", "c"),
    },
}
POLICIES: dict[str, dict[str, Any]] = {
    "slo": {"forecast": {"method": "auto"}, "learning": {"enabled": True}},
    "threshold": {"slo": None, "sizing": {"target_utilization": 0.7}, "routing": {"strategy": "response_time"}},
    "careful": {"availability": {"min_instances": 2, "min_zones": 2}, "horizontal": {"max_step_in": 1}},
    "static": {"routing": {"strategy": "static", "static_weights": {"l4": 1, "l40s": 2}}},
    "bold": {
        "horizontal": {"scale_in_stabilization_seconds": 0, "tolerance_percent": 0, "max_step_in": 50},
        "forecast": {"method": "trend"},
    },
    "sleepy": {"zero": {"idle_seconds": 300}},
    "fixed": {"vertical": {"method": "off"}, "forecast": {"method": "peak"}},
}
RPS = st.one_of(st.just(0.0), st.floats(0.01, 60.0))


def ready_ids(seen: Observation, name: str) -> set[str]:
    return {i.id for i in seen.pools[name].instances if i.phase is Phase.READY}


def room(of: Pool, seen: Observation) -> tuple[int, int]:
    """The pool's bounds within the group's: AWS keeps to the latter alone."""
    view = seen.pools[of.name]
    low, high = (max(view.min_size, min(view.max_size, n)) for n in (of.min_instances, of.max_instances))
    return low, high


def capacity(of: Service, decision: Decision) -> float:
    return sum(decision.targets[p.name].desired * p.throughput_rps for p in of.pools)


def _story(seen: Observation, decision: Decision) -> str:
    """What stood, what was said and what came of it."""
    stood = {name: f"{view.desired} ({len(ready_ids(seen, name))} ready)" for name, view in seen.pools.items()}
    came = {name: f"{t.desired}-{len(t.take)} w{t.weight} b{t.on_demand_base}" for name, t in decision.targets.items()}
    return "\n".join([f"{stood} -> {came}", *(f"  {r.code}: {r.sentence}" for r in decision.reasons)])


class Machine(RuleBasedStateMachine):
    """Everything that a service goes through in its life, in any order."""

    @initialize(
        names=st.lists(st.sampled_from(sorted(POOLS)), min_size=1, max_size=3, unique=True),
        chosen=st.sampled_from(sorted(POLICIES)),
        ready=st.integers(0, 8),
        rps=RPS,
    )
    def begin(self, names: list[str], chosen: str, ready: int, rps: float) -> None:
        self.bounds = {name: POOLS[name] for name in names}
        self.policy = chosen
        self.world = World(self._service(), {names[0]: ready}, rps, NOW)
        self.state = State()
        self.ticks = 0
        self.skew = 0.0

    def _service(self) -> Service:
        changes = POLICIES[self.policy]
        pools = [pool(name, **bounds) for name, bounds in self.bounds.items()]
        return service(*pools, **changes)

    # What happens to it

    @rule(minutes=st.integers(1, 6))
    def time_passes(self, minutes: int) -> None:
        for _ in range(minutes):
            self.tick()

    @rule(rps=RPS)
    def load_changes(self, rps: float) -> None:
        self.world.rps = rps
        self.tick()

    @rule(factor=st.floats(1.5, 8.0))
    def a_burst_begins(self, factor: float) -> None:
        self.world.newest = self.world.rps * factor
        self.tick()
        self.world.rps *= factor**0.5
        self.world.newest = None

    @rule(seconds=st.sampled_from([60.0, 240.0, 900.0]), fail=st.booleans())
    def boots_change(self, seconds: float, fail: bool) -> None:
        self.world.boot_seconds, self.world.boots_fail = seconds, fail

    @rule(zones=st.sets(st.sampled_from("abc")), spot=st.booleans())
    def capacity_runs_out(self, zones: set[str], spot: bool) -> None:
        self.world.dry_zones, self.world.spot_dry = zones, spot

    @rule()
    def spot_is_lost(self) -> None:
        for group in self.world.groups.values():
            group.nodes = [n for n in group.nodes if not n.spot]
        self.tick()

    @rule(pick=st.integers(0, 20))
    def a_node_falls_ill_or_recovers(self, pick: int) -> None:
        nodes = [n for g in self.world.groups.values() for n in g.nodes]
        if nodes:
            node = nodes[pick % len(nodes)]
            node.sick = not node.sick

    @rule(pick=st.integers(0, 20))
    def a_node_dies(self, pick: int) -> None:
        for group in self.world.groups.values():
            if group.nodes:
                group.nodes.pop(pick % len(group.nodes))
                return

    @rule(what=st.sets(st.sampled_from(["load", "arrivals", "own", "rates", "rejected", "burst"])))
    def metrics_are_missing(self, what: set[str]) -> None:
        self.world.missing = what

    @rule(seconds=st.sampled_from([0.0, 60.0, 120.0, 170.0, 600.0]))
    def metrics_are_late(self, seconds: float) -> None:
        self.world.lag_seconds = seconds

    @rule(seconds=st.sampled_from([-86400.0, -300.0, 300.0, 86400.0]))
    def the_clock_jumps_and_comes_back(self, seconds: float) -> None:
        self.skew = seconds
        self.tick()
        self.skew = 0.0
        self.tick()

    @rule(minutes=st.integers(1, 30))
    def the_scaler_stands_still(self, minutes: int) -> None:
        self.world.advance(minutes)
        self.tick()

    @rule()
    def the_state_is_lost(self) -> None:
        self.state = State()
        self.tick()

    @rule(chosen=st.sampled_from(sorted(POLICIES)))
    def the_policy_changes(self, chosen: str) -> None:
        self.policy = chosen
        self.world.adopt(self._service())
        self.tick()

    @rule(low=st.integers(0, 3), high=st.integers(0, 12), pick=st.integers(0, 2), groups_too=st.booleans())
    def the_bounds_change(self, low: int, high: int, pick: int, groups_too: bool) -> None:
        name = sorted(self.bounds)[pick % len(self.bounds)]
        low = min(low, high)
        self.bounds[name] = self.bounds[name] | {"min_instances": low, "max_instances": high}
        self.world.adopt(self._service(), groups_too=groups_too)
        self.tick()

    @precondition(lambda self: self.world.missing or self.world.lag_seconds or self.world.dry_zones)
    @rule()
    def all_is_well_again(self) -> None:
        self.world.missing, self.world.lag_seconds = set(), 0.0
        self.world.dry_zones, self.world.spot_dry, self.world.boots_fail = set(), False, False

    # What holds

    def tick(self) -> None:
        self.world.advance()
        self.ticks += 1
        of, now = self.world.service, self.world.now + self.skew
        seen = self.world.observe(self.state)
        decision = decide(of, seen, self.state, now)
        self._targets_are_possible(of, seen, decision)
        self._no_capacity_is_taken_that_is_needed(of, seen, decision, now)
        self._weights_are_valid(of, seen, decision)
        if self.ticks % 3 == 0:
            self._more_load_never_gives_less(of, seen, decision, now)
            self._again_changes_nothing(of, seen, decision, now)
            self._the_state_is_small_and_survives(decision)
        self.state = decision.state
        self.world.apply(decision)

    def _targets_are_possible(self, of: Service, seen: Observation, decision: Decision) -> None:
        step_in, step_out = of.policy.horizontal.max_step_in, of.policy.horizontal.max_step_out
        for p in of.pools:
            view, target = seen.pools[p.name], decision.targets[p.name]
            low, high = room(p, seen)
            staying = {i.id for i in view.instances if i.phase is not Phase.DRAINING}
            assert len(set(target.take)) == len(target.take)
            assert set(target.take) <= staying, "takes what is not there"
            if target.desired >= view.desired:
                assert not target.take
                assert target.desired <= max(high, view.desired)
                assert target.desired - view.desired <= max(step_out, low)
            else:
                dropped = view.desired - target.desired - len(target.take)
                assert 0 <= dropped <= max(0, view.desired - len(staying))
                assert len(target.take) + dropped <= step_in
                assert target.desired >= low
            if view.desired > high and not decision.state.wants_instance_loads:  # as many go as a step allows
                assert target.desired <= max(high, view.desired - step_in)
            if decision.state.zero.asleep:
                assert p.min_instances == 0

    def _no_capacity_is_taken_that_is_needed(
        self, of: Service, seen: Observation, decision: Decision, now: float
    ) -> None:
        before = after = 0.0
        forced = 0.0
        for p in of.pools:
            ready = ready_ids(seen, p.name)
            taken = ready & set(decision.targets[p.name].take)
            before += len(ready) * p.throughput_rps
            after += (len(ready) - len(taken)) * p.throughput_rps
            forced += max(0, seen.pools[p.name].desired - room(p, seen)[1])
        if after == before or forced or decision.state.zero.asleep:
            return
        asked = current(seen.arrivals_rps, now, of.policy.load.stale_after_seconds)
        assert asked is None or after >= min(asked, before) - 1e-6, "took what was needed"
        assert decision.signals.utilization is not None, "took a serving node without knowing the load"

    def _weights_are_valid(self, of: Service, seen: Observation, decision: Decision) -> None:
        left = {p.name: ready_ids(seen, p.name) - set(decision.targets[p.name].take) for p in of.pools}
        for name, target in decision.targets.items():
            assert isinstance(target.weight, int)
            assert 0 <= target.weight <= 999
            if any(left.values()) and not left[name]:
                assert target.weight == 0, "traffic to a pool without targets"
        if any(left.values()):
            assert any(t.weight for t in decision.targets.values())

    def _more_load_never_gives_less(self, of: Service, seen: Observation, decision: Decision, now: float) -> None:
        more = decide(of, busier(seen, 1.5), self.state, now)
        # With several pools the counts may stand in the middle of a move; then more load must at least get its own.
        least = capacity(of, decision)
        if len(of.pools) > 1 and more.signals.required_rps is not None:
            least = min(least, more.signals.required_rps)
        assert capacity(of, more) >= least - 1e-6, f"{_story(seen, decision)}\nBUT {_story(seen, more)}"

    def _again_changes_nothing(self, of: Service, seen: Observation, decision: Decision, now: float) -> None:
        # The next run, whenever it comes, is not the first any more, and orders again what a stuck boot made room for.
        if {"guard.first_run", "guard.stuck"} & set(decision.codes):
            return
        again = decide(of, applied(seen, decision), decision.state, now)
        story = f"{_story(seen, decision)}\nTHEN {_story(seen, again)}"
        for name, target in again.targets.items():
            assert target.take == ()
            first = decision.targets[name].desired
            # Among several pools more may be asked for, once orders stand in one whose instances boot for longer, or
            # are worth less as few as they are; never less, and among one never another number.
            same = target.desired == first or (len(of.pools) > 1 and target.desired > first)
            assert same, f"{name}: {story}"
            assert target.weight == decision.targets[name].weight, (
                f"{_story(seen, decision)}\nTHEN {_story(seen, again)}"
            )
            assert target.on_demand_base is None, story

    def _the_state_is_small_and_survives(self, decision: Decision) -> None:
        text = dump(decision.state)
        assert len(text) < STATE_BYTES
        assert load(State, text) == decision.state


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=100,
    stateful_step_count=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
