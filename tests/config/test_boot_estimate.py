"""What a boot is expected to take, and what a launch costs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from gpu_fleet.config.boot_estimate import BootPath, LaunchPrice, Way, expected_boot, launch_price
from gpu_fleet.config.boot_paths import BOOT_PATHS
from gpu_fleet.config.catalog import BootFigures
from gpu_fleet.config.composition import boot_path, services
from gpu_fleet.config.settings import BootOptions, ExistingNetwork, ImageCache, Nat, NewNetwork, PoolSettings
from gpu_fleet.config.stack_file import read_stack
from gpu_fleet.config.yaml_files import read_library
from gpu_fleet.scaling.boot import Boot

FP8, LARGE = "llama-3.1-8b-fp8", "llama-70b"
REGION = BootPath(image=Way.REGION, weights=Way.REGION)
POOL = PoolSettings(types=("g6.xlarge",), min=0, max=1)
ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com/vllm:1"


@pytest.fixture(scope="module")
def known(root):
    return read_library(root)


def boot(known, path=None, type_="g6.xlarge", model=FP8):
    kind = known.catalog.types[type_]
    served = known.profiles.models[model]
    return expected_boot(kind, served, served.profiles[0], known.catalog, path)


def price(known, path=None, type_="g6.xlarge", model=FP8) -> LaunchPrice:
    kind, served = known.catalog.types[type_], known.profiles.models[model]
    return launch_price(kind, served, boot(known, path, type_, model), known.catalog, path)


def test_a_boot_through_nat_onto_a_volume_at_its_baseline(known):
    """40.6 GB at 131 MB/s; 34 s of start, 9.13 GB written at 131 MB/s and loaded from the page cache at 0.49 GB/s."""
    expected = Boot(30, 60, 40.6 / 0.131072, 34 + 9.1268 / 0.131072 + 9.1268 / 0.49, 106, 25)
    assert boot(known).by_phase == pytest.approx(expected.by_phase, rel=1e-4)


def test_weights_that_exceed_main_memory_are_read_from_the_disk_again(known):
    """15 GiB of BF16 in 16 GiB: no page cache holds them."""
    gb = 15 * 1.073741824
    assert boot(known, model="llama-3.1-8b").weights == pytest.approx(34 + 2 * gb / 0.131072, rel=1e-4)
    assert boot(known, model="llama-3.1-8b", type_="g6.2xlarge").weights == pytest.approx(
        34 + gb / 0.131072 + gb / 0.49, rel=1e-4
    )


def test_each_path_is_no_slower_in_any_phase_than_the_one_before_it(known):
    for type_, model in (("g6.xlarge", FP8), ("g6e.xlarge", FP8), ("p5.4xlarge", FP8), ("p5.48xlarge", LARGE)):
        boots = [boot(known, path, type_, model) for path in BOOT_PATHS.values()]
        assert all(later.seconds <= earlier.seconds for earlier, later in pairwise(boots))
        assert boots[-1].seconds < 0.5 * boots[0].seconds


def test_a_type_without_disks_of_its_own_keeps_to_its_volume(known):
    kind = known.catalog.types["g6.xlarge"].model_copy(update={"instance_store_gb": 0})
    served = known.profiles.models[FP8]
    paths = (BootPath(instance_store=True), BootPath())
    with_store, without = (expected_boot(kind, served, served.profiles[0], known.catalog, path) for path in paths)
    assert with_store == without


def test_a_volume_is_no_faster_than_the_instances_way_to_it(known):
    fast = BootPath(volume_mib_per_second=4000)
    kind = known.catalog.types["g6.xlarge"]
    assert boot(known, fast).image == pytest.approx(max(12 / 0.058, 40.6 / (kind.volume_gbps / 8)))


def test_a_launch_through_nat_costs_more_than_an_hour_of_a_small_instance(known):
    """12 GB of image and 9.13 GB of weights at 0.045 USD."""
    paid = price(known)
    assert paid.nat_usd == pytest.approx((12 + 9.1268) * 0.045, rel=1e-4)
    assert paid.volume_usd == pytest.approx(200 * 0.08 / 730 * boot(known).seconds / 3600)
    assert paid.instance_usd == pytest.approx(0.8048 * boot(known).seconds / 3600)
    assert paid.usd == paid.extra_usd + paid.instance_usd > 0.8048
    assert price(known, model=LARGE, type_="p5.48xlarge").nat_usd == pytest.approx(6.894, abs=0.001)


def test_nothing_passes_nat_within_the_region_or_with_the_ami(known):
    assert price(known, REGION).nat_usd == 0
    assert price(known, replace(REGION, image=Way.AMI)).nat_usd == 0
    assert price(known, BootPath(weights=Way.REGION)).nat_usd == pytest.approx(12 * 0.045)


def test_throughput_above_the_baseline_is_paid_while_it_boots(known):
    hours = boot(known, BootPath(volume_mib_per_second=1000)).seconds / 3600
    paid = price(known, BootPath(volume_mib_per_second=1000)).volume_usd
    assert paid == pytest.approx((200 * 0.08 + 875 * 0.04) / 730 * hours)


NEW = NewNetwork(zones=("us-east-1a", "us-east-1b"))
GIVEN = ExistingNetwork(
    vpc_id="vpc-0a1b2c3d",
    public_subnet_ids=("subnet-0a1b2c3d", "subnet-0a1b2c3e"),
    private_subnet_ids=("subnet-0a1b2c3f",),
)


def served(root, network=None, caches=None, boot=None, **container):
    """The local stack with another network, caches, and container and boot of its service."""
    settings, _ = read_stack(root, "local")
    one = settings.services["chat"]
    changes = {"container": one.container.model_copy(update=container), "boot": BootOptions.model_validate(boot or {})}
    one = one.model_copy(update=changes)
    more = {"network": network or NEW, "image_caches": caches or {}}
    return boot_path(settings.model_copy(update=more), one, POOL)


@pytest.mark.parametrize(
    ("network", "image", "args", "image_way", "weights_way"),
    [
        (NEW, "vllm/vllm-openai:v0.29.0", ("--model", "meta/x"), Way.NAT, Way.NAT),
        (NEW, ECR, ("--model", "s3://bucket/x"), Way.REGION, Way.REGION),
        (NEW, ECR, ("--model=s3://bucket/x",), Way.REGION, Way.REGION),
        (NEW, ECR, ("--model", "meta/x"), Way.REGION, Way.NAT),
        (NEW.model_copy(update={"s3_endpoint": False}), ECR, ("--model", "s3://bucket/x"), Way.NAT, Way.NAT),
        (NEW.model_copy(update={"nat": Nat.NONE}), "vllm/vllm-openai:v0.29.0", (), Way.REGION, Way.REGION),
        (GIVEN, "vllm/vllm-openai:v0.29.0", (), Way.NAT, Way.NAT),
        (GIVEN, ECR, ("--model", "s3://bucket/x"), Way.REGION, Way.REGION),
    ],
)
def test_what_passes_the_nat_gateway_follows_from_the_stack(root, network, image, args, image_way, weights_way):
    path = served(root, network, image=image, args=args)
    assert (path.image, path.weights) == (image_way, weights_way)


def test_how_a_service_boots_follows_from_its_settings(root):
    assert served(root) == BootPath(volume_gib=POOL.volume_gib, instance_store=True)
    assert served(root, caches={"docker.io": ImageCache(existing_prefix="hub")}).image is Way.REGION
    slow = served(root, boot={"instance_store": False, "volume_iops": 4000, "volume_throughput_mib_per_second": 500})
    assert (slow.instance_store, slow.volume_mib_per_second) == (False, 500)
    baked = served(root, boot={"baked_ami": True})
    assert (baked.image, baked.compile_cached, baked.instance_store) == (Way.AMI, False, True)
    copied = served(root, boot={"weights": {}})
    assert (copied.weights, copied.streamed) == (Way.REGION, False)
    assert served(root, boot={"weights": {"load": "stream"}}).streamed


def test_a_pools_lead_time_and_launch_price_are_those_of_its_slowest_boot(root, known):
    settings, document = read_stack(root, "local")
    for one in services(settings, known, document):
        for pool in one.pools:
            path = BOOT_PATHS["instance store, image from ECR, weights streamed from S3"]
            boots = [boot(known, path, type_) for type_ in pool.types]
            assert pool.lead_seconds == pytest.approx(max(b.seconds for b in boots), abs=0.1)
            assert pool.launch_usd == pytest.approx(price(known, path, pool.types[0]).extra_usd, abs=1e-3)


def test_every_figure_of_a_boot_has_its_source(known):
    figures = known.catalog.boot.model_dump()
    for name in ("image_gb", "agent_seconds"):
        lacking = {**figures, "sources": {k: v for k, v in figures["sources"].items() if k != name}}
        with pytest.raises(ValueError, match=f"must have one for each figure and no other \\({name} differs"):
            BootFigures.model_validate(lacking)
