"""Pool options, drawn and written by hand, for the tests of the mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from gpu_fleet.scaling.mix import PoolOption


def option(
    name: str = "small", rps: float = 1, usd: float = 1, low: int = 0, high: int = 10, **more: Any
) -> PoolOption:
    return PoolOption(name, rps, usd, low, high, **more)


@st.composite
def drawn_options(draw: st.DrawFn, most_each: int = 4) -> list[PoolOption]:
    """Up to four options with prices in cents and work in tenths; some share a quota."""
    made = []
    for i in range(draw(st.integers(1, 4))):
        low = draw(st.integers(0, 2))
        made.append(
            PoolOption(
                f"p{i}",
                draw(st.integers(0, 60)) / 10,
                draw(st.integers(1, 500)) / 100,
                low,
                low + draw(st.integers(0, most_each)),
                draw(st.sampled_from([4, 8, 48])),
                draw(st.sampled_from(["", "g", "p"])),
            )
        )
    return made


quota_sets = st.dictionaries(st.sampled_from(["g", "p"]), st.integers(0, 300), max_size=2)


def allowed(candidates: Sequence[PoolOption], counts: Mapping[str, int], quotas: Mapping[str, int]) -> bool:
    for quota, vcpus in quotas.items():
        members = [each for each in candidates if each.quota == quota]
        floor = sum(each.vcpus * each.at_least for each in members)
        if sum(each.vcpus * counts[each.name] for each in members) > max(vcpus, floor):
            return False
    return all(each.at_least <= counts[each.name] <= each.at_most for each in candidates)
