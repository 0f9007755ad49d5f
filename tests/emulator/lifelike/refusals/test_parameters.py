from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def put(account: Any) -> Any:
    def put(value: str, tier: str = "Standard", name: str = "/a/b", **how: Any) -> str:
        account.ssm.put_parameter(Name=name, Value=value, Type="String", Tier=tier, **how)
        return str(account.ssm.describe_parameters()["Parameters"][0]["Tier"])

    return put


@pytest.mark.parametrize(("tier", "most"), [("Standard", 4096), ("Advanced", 8192), ("Intelligent-Tiering", 8192)])
def test_a_value_has_4_or_8_kilobytes(put: Any, refused: Any, tier: str, most: int) -> None:
    with refused("ValidationException", "maximum parameter value"):
        put("x" * (most + 1), tier)
    with refused("ValidationException"):
        put("é" * (most // 2 + 1), tier)
    put("x" * most, tier)


def test_intelligent_tiering_chooses_the_tier_that_fits_and_never_goes_back(put: Any) -> None:
    assert put("x" * 4096, "Intelligent-Tiering") == "Standard"
    assert put("x" * 4097, "Intelligent-Tiering", Overwrite=True) == "Advanced"
    assert put("x", "Intelligent-Tiering", Overwrite=True) == "Advanced"


def test_a_parameters_name_is_unique_unless_overwritten(put: Any, refused: Any) -> None:
    put("one")
    with refused("ParameterAlreadyExists"):
        put("two")
    put("two", Overwrite=True)


def test_a_value_contains_no_double_braces(put: Any, refused: Any) -> None:
    with refused("ValidationException"):
        put('{"a": {{b}}}')
    put('{"a": {"b": 1}}')


def test_a_name_has_15_levels(put: Any, refused: Any) -> None:
    with refused("HierarchyLevelLimitExceededException"):
        put("x", name="/a" * 16)
    put("x", name="/a" * 15)
