"""The parts of a replay: traffic, hardware, alarms, fleet and bill; tests/end_to_end has the loop as a whole."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from gpu_fleet.config.stack_file import read_stack
from gpu_fleet.config.yaml_files import read_library
from gpu_fleet.emulator import Change, EmbeddedCloud, InstanceChange
from gpu_fleet.emulator.lifelike.metric_store import DataPoint
from gpu_fleet.replay.alarms import Alarms
from gpu_fleet.replay.engine_fleet import EngineFleet
from gpu_fleet.replay.hardware import InstanceHardware, service_hardware
from gpu_fleet.scaling.observation import Phase
from gpu_fleet.scaling.policy import Policy
from gpu_fleet.scaling.profile import Profile
from gpu_fleet.scaling.queue_limit import UNLIMITED
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.simulator.feed import Feed
from gpu_fleet.simulator.simulation import Simulation
from gpu_fleet.traffic import hour

PROFILE = Profile(
    prefill_tokens_per_second=1000.0,
    decode_base_seconds=0.02,
    decode_seconds_per_sequence=0.001,
    kv_cache_tokens=10_000,
    compile_seconds=10.0,
    estimate=True,
    source="made up",
)


# ---- traffic


def test_every_request_is_handed_out_once_whatever_the_steps():
    trace = hour(3.0, seed=2).sample(2)
    feed = Feed(trace, seed=0)
    edges = [*np.arange(7.0, 1500.0, 7.0), 1500.0, 2200.0, np.inf]
    parts = [feed.take(edge) for edge in edges]
    assert np.array_equal(np.concatenate([part[0] for part in parts]), trace.at_seconds)
    assert np.array_equal(np.concatenate([part[2] for part in parts]), trace.output_tokens)
    for before, edge, part in zip([0.0, *edges], edges, parts, strict=False):
        assert all((part[0] >= before) & (part[0] < edge))


# ---- hardware


def test_hardware_takes_figures_from_profiles_and_prices_from_the_catalog(root):
    settings, _ = read_stack(root, "local")
    library = read_library(root)
    hardware = service_hardware(settings, "chat", library)
    assert list(hardware) == list(settings.services["chat"].pools)
    assert list(hardware["l4"]) == ["g6.xlarge", "g6.2xlarge"]
    entry, l4 = library.catalog.types["g6.xlarge"], hardware["l4"]["g6.xlarge"]
    assert l4.usd_per_hour(spot=False) == entry.on_demand_usd_per_hour
    assert l4.usd_per_hour(spot=True) == entry.spot_usd_per_hour
    assert l4.gpus == entry.gpus


def test_types_that_may_take_the_place_of_others_have_hardware_of_their_own(root):
    settings, _ = read_stack(root, "vertical")
    hardware = service_hardware(settings, "chat", read_library(root))
    assert list(hardware["gpu"]) == ["g6.xlarge", "g6.2xlarge", "g6e.xlarge", "g6e.2xlarge"]
    engines = [one.engine for one in hardware["gpu"].values()]
    assert engines[0] == engines[1] != engines[2] == engines[3]


# ---- alarms


def make_function(cloud: EmbeddedCloud) -> str:
    role = cloud.client("iam").create_role(RoleName="scaler", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("handler.py", "")
    made = cloud.client("lambda").create_function(
        FunctionName="scaler",
        Role=role,
        Code={"ZipFile": archive.getvalue()},
        Runtime="python3.13",
        Handler="handler.handle",
    )
    return str(made["FunctionArn"])


class AlarmDesk:
    """An embedded cloud with one alarm of high resolution, and a function that this alarm may invoke."""

    def __init__(self, cloud: EmbeddedCloud, *, let_in: str = "burst", **changes: object) -> None:
        self.cloud = cloud
        function = make_function(cloud)
        cloud.client("lambda").add_permission(
            FunctionName=function,
            StatementId="burst",
            Action="lambda:InvokeFunction",
            Principal="lambda.alarms.cloudwatch.amazonaws.com",
            SourceArn=f"arn:aws:cloudwatch:us-east-1:{cloud.account}:alarm:{let_in}",
            SourceAccount=cloud.account,
        )
        cloud.client("cloudwatch").put_metric_alarm(
            **{
                "AlarmName": "burst",
                "Namespace": "GpuFleet",
                "MetricName": "requests_waiting",
                "Dimensions": [{"Name": "AutoScalingGroupName", "Value": "group"}],
                "Statistic": "Average",
                "Period": 10,
                "EvaluationPeriods": 1,
                "Threshold": 4.0,
                "ComparisonOperator": "GreaterThanOrEqualToThreshold",
                "AlarmActions": [function],
                **changes,
            }
        )
        self.alarms = Alarms(cloud, function)

    def wait(self, *values: float) -> list[dict]:
        """Let requests wait at the end of each 10 s, and return the events of the last."""
        for value in values:
            at = self.cloud.now
            self.cloud.advance(at + 10)
            self.cloud.metrics.put(
                "GpuFleet",
                "requests_waiting",
                [("AutoScalingGroupName", "group")],
                at,
                DataPoint(1.0, value, value, value, [(value, 1.0)]),
                high_resolution=True,
            )
        return self.alarms.fired(self.cloud.now)


@pytest.fixture
def cloud():
    with EmbeddedCloud() as opened:
        yield opened


def test_an_alarm_fires_when_it_begins_to_breach_and_not_while_it_stays(cloud):
    desk = AlarmDesk(cloud)
    assert desk.wait(3.9) == []
    (event,) = desk.wait(4.0)
    metric = event["alarmData"]["configuration"]["metrics"][0]["metricStat"]["metric"]
    assert metric["dimensions"] == {"AutoScalingGroupName": "group"}
    assert desk.wait(9.0) == []
    assert desk.wait(1.0) == []
    assert len(desk.wait(9.0)) == 1


def test_an_alarm_without_data_does_not_breach(cloud):
    desk = AlarmDesk(cloud)
    desk.wait(9.0)
    cloud.advance(cloud.now + 120)
    assert desk.alarms.fired(cloud.now) == []
    assert len(desk.wait(9.0)) == 1, "and then begins anew"


@pytest.mark.parametrize("changes", [{"ActionsEnabled": False}, {"AlarmActions": ["arn:aws:sns:us-east-1:1:else"]}])
def test_alarms_that_do_not_call_the_function_are_not_its_matter(cloud, changes):
    assert AlarmDesk(cloud, **changes).wait(9.0) == []


def test_an_alarm_that_the_functions_policy_does_not_let_in_runs_nothing(cloud):
    assert AlarmDesk(cloud, let_in="gpu-fleet_prod_*_burst").wait(9.0) == []


def test_a_pattern_lets_an_alarm_in(cloud):
    assert len(AlarmDesk(cloud, let_in="bur*").wait(9.0)) == 1


def test_an_alarm_over_several_periods_needs_all_of_them(cloud):
    desk = AlarmDesk(cloud, EvaluationPeriods=3)
    assert desk.wait(9.0, 9.0) == []
    assert len(desk.wait(9.0)) == 1


FASTER = PROFILE.model_copy(update={"decode_base_seconds": 0.005})

# ---- instances and engines


class FleetDesk:
    """A fleet of one pool whose instances change as the test says; times from the start."""

    START = 1000.0

    def __init__(self, cloud: EmbeddedCloud, copies: int = 1) -> None:
        pool = Pool(
            name="l4",
            types=("g6.xlarge",),
            min_instances=0,
            max_instances=9,
            capacity=8.0,
            throughput_rps=1.0,
            on_demand_usd_per_hour=3.6,
        )
        types = {
            "g6.xlarge": InstanceHardware(PROFILE, copies, UNLIMITED, copies, 3.6, 1.8),
            "g6e.xlarge": InstanceHardware(FASTER, 1, UNLIMITED, 1, 7.2, None),
        }
        service = Service(name="chat", policy=Policy(model="m"), pools=(pool,))
        self.gone: list[str] = []
        cloud.finish_drain = self.gone.append  # type: ignore[method-assign]
        self.fleet = EngineFleet(cloud, service, {"l4": "group"}, {"l4": types})
        self.simulation = Simulation([types["g6.xlarge"].engine], more_engines=[types["g6e.xlarge"].engine])

    def begin(self) -> None:
        self.fleet.begin(self.simulation, self.START)

    def happens(
        self,
        at: float,
        change: Change,
        id_: str = "i-1",
        *,
        spot: bool = False,
        group: str = "group",
        type_: str = "g6.xlarge",
    ) -> None:
        self.fleet._on_change(InstanceChange(self.START + at, change, id_, group, type_, "us-east-1a", spot))

    def run(self, until: float, *at_seconds: float, output_tokens: float = 10.0) -> None:
        at = np.array(at_seconds)
        self.simulation.run(until, at, np.full(at.size, 100.0), np.full(at.size, output_tokens))
        self.fleet.settle()


@pytest.fixture
def desk(cloud):
    made = FleetDesk(cloud)
    made.begin()
    return made


def test_an_engine_serves_from_the_moment_its_target_is_healthy(desk):
    desk.happens(0, Change.LAUNCHED)
    desk.happens(12, Change.HEALTHY)
    desk.run(20, 11.9, 12.1)
    total = desk.simulation.window().total
    assert (total.rejected_no_target, total.completed) == (1, 1)
    assert desk.fleet.count("l4", Phase.READY) == 1


def test_a_drained_instance_ends_when_its_last_request_has(desk):
    desk.happens(0, Change.LAUNCHED)
    desk.happens(0, Change.HEALTHY)
    desk.happens(5, Change.DRAINING)
    desk.run(10, 4.0, output_tokens=1000.0)
    assert desk.gone == []
    desk.run(60)
    assert desk.gone == ["i-1"]
    desk.happens(60, Change.GONE)
    assert desk.fleet.lost == {}
    assert desk.simulation.window().total.completed == 1


def test_an_instance_that_never_served_has_nothing_to_drain(desk):
    desk.happens(0, Change.LAUNCHED)
    desk.happens(5, Change.DRAINING)
    desk.run(10)
    assert desk.gone == ["i-1"]


@pytest.mark.parametrize("change", [Change.GONE, Change.LOST, Change.UNHEALTHY])
def test_requests_that_go_with_their_instance_are_lost_with_the_cause(desk, change):
    desk.happens(0, Change.LAUNCHED)
    desk.happens(0, Change.HEALTHY)
    desk.happens(5, change)
    desk.run(10, 4.0, 4.5, output_tokens=1000.0)
    assert desk.fleet.lost == {change: 2}


def test_an_engine_that_answers_again_serves_again(desk):
    desk.happens(0, Change.LAUNCHED)
    desk.happens(0, Change.HEALTHY)
    desk.happens(5, Change.UNHEALTHY)
    desk.happens(15, Change.HEALTHY)
    desk.run(20, 6.0, 16.0)
    total = desk.simulation.window().total
    assert (total.rejected_no_target, total.completed) == (1, 1)


def test_instances_of_other_groups_are_not_seen(desk):
    desk.happens(0, Change.LAUNCHED, group="other")
    desk.happens(0, Change.HEALTHY, group="other")
    assert desk.fleet.running == {}


def test_several_copies_of_a_model_serve_on_one_instance(cloud):
    desk = FleetDesk(cloud, copies=4)
    desk.begin()
    desk.happens(0, Change.LAUNCHED)
    desk.happens(0, Change.HEALTHY)
    desk.run(1)
    assert desk.simulation.targets(0) == 4
    assert desk.fleet.count("l4", Phase.READY) == 1
    desk.happens(1, Change.DRAINING)
    desk.run(2)
    assert desk.gone == ["i-1"], "once, when the last copy is empty"


def test_an_instance_of_another_type_serves_as_fast_and_costs_as_much_as_its_own_type(desk):
    """Of 10 tokens, 9 steps after the prompt: 21 ms each on one type, 6 ms on the other."""
    desk.happens(0, Change.LAUNCHED, "i-1")
    desk.happens(0, Change.LAUNCHED, "i-2", type_="g6e.xlarge")
    desk.happens(0, Change.HEALTHY, "i-1")
    desk.run(10, 1.0)
    slow = desk.simulation.window().total
    desk.happens(10, Change.DRAINING, "i-1")
    desk.happens(10, Change.HEALTHY, "i-2")
    desk.run(20, 12.0)
    fast = desk.simulation.window().total
    means = [window.tpot_seconds_sum / window.completed for window in (slow, fast)]
    assert means == [pytest.approx(0.021), pytest.approx(0.006)]
    assert desk.fleet.types("l4", Phase.READY) == {"g6e.xlarge": 1}
    assert desk.fleet.usd_per_hour == pytest.approx(3.6 + 7.2)
    assert desk.fleet.bill(3600.0).usd["l4"] == pytest.approx(3.6 + 7.2)
    assert desk.fleet.gpu_hours(3600.0) == pytest.approx(2.0)


def test_the_bill_counts_seconds_from_the_start_or_the_launch_to_the_end(cloud):
    desk = FleetDesk(cloud)
    desk.happens(-500, Change.LAUNCHED, "i-0")
    desk.happens(-100, Change.HEALTHY, "i-0")
    desk.begin()
    desk.happens(100, Change.LAUNCHED, "i-1", spot=True)
    desk.happens(100, Change.LAUNCHED, "i-2")
    desk.happens(110, Change.GONE, "i-2")
    bill = desk.fleet.bill(1000.0)
    # i-0 from the start on, i-1 from its launch, i-2 for the minute that is paid at least.
    assert bill.seconds["l4"] == 1000 + 900 + 60
    assert bill.usd["l4"] == pytest.approx((1000 * 3.6 + 900 * 1.8 + 60 * 3.6) / 3600)
    assert desk.fleet.usd_per_hour == pytest.approx(3.6 + 1.8)
    assert desk.fleet.launches == 2
