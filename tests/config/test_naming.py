"""Limits of AWS that no emulator holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.config import naming
from gpu_fleet.config.settings import ZONE_LETTERS
from infra.gpu_pool import root_device
from infra.network import subnet_ranges

names = st.from_regex(r"[a-z][a-z0-9-]{0,60}", fullmatch=True)


@given(names)
def test_a_fitting_name_leaves_room_for_the_random_part(name: str) -> None:
    cut = naming.fitting(name, naming.MAX_TARGET_GROUP_NAME)
    assert len(cut) + naming.RANDOM_SUFFIX <= naming.MAX_TARGET_GROUP_NAME
    assert len(name) > naming.MAX_TARGET_GROUP_NAME - naming.RANDOM_SUFFIX or cut == name


def test_long_names_with_a_common_start_stay_different() -> None:
    one, two = (naming.fitting("transcription-of-meetings-" + pool, 32) for pool in ("l40s", "l4"))
    assert one != two
    assert one.startswith("transcription-of-me-")


@pytest.mark.parametrize(("weights", "message"), [
    ([1, 1000], "0 to 999"), ([-1, 1], "0 to 999"), ([0, 0], "serves nobody"), ([1] * 6, "1 to 5"), ([], "1 to 5"),
])  # fmt: skip
def test_weights_that_aws_would_refuse_are_refused(weights: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        naming.check_weights(weights)


def test_valid_weights_are_returned() -> None:
    assert naming.check_weights([999, 0, 1]) == (999, 0, 1)


@given(st.floats(0, 1e6))
def test_a_hooks_timeout_is_within_awss_limits(seconds: float) -> None:
    assert naming.MIN_HOOK_SECONDS <= naming.hook_seconds(seconds) <= naming.MAX_HOOK_SECONDS


@pytest.mark.parametrize("cidr", ["10.0.0.0/16", "172.16.8.0/21", "192.168.0.0/23"])
def test_subnets_of_all_zones_lie_apart_and_hold_a_load_balancer(cidr: str) -> None:
    import ipaddress

    cut = [subnet_ranges(cidr, letter) for letter in ZONE_LETTERS]
    networks = [ipaddress.IPv4Network(c) for zone in cut for c in (zone.public, zone.private)]
    assert len(networks) == 2 * len(ZONE_LETTERS)
    assert all(n.subnet_of(ipaddress.IPv4Network(cidr)) and n.prefixlen <= 27 for n in networks)
    assert not any(a.overlaps(b) for i, a in enumerate(networks) for b in networks[:i])


def test_the_root_volume_is_the_one_that_the_image_has() -> None:
    base = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-"
    assert root_device(base + "ubuntu-22.04/latest/ami-id") == "/dev/sda1"
    assert root_device(base + "amazon-linux-2023/latest/ami-id") == "/dev/xvda"
