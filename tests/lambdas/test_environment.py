"""The Lambda's environment variables."""

from __future__ import annotations

import pytest

from lambdas.scaler.environment import Environment, EnvironmentVariableError

VARIABLES = {"SERVICES_PATH": "/gpu-fleet/prod/services/", "STATE_TABLE": "states", "STACK": "gpu-fleet-prod"}


def test_a_slash_at_the_end_of_the_path_makes_no_difference():
    assert Environment.from_env(VARIABLES) == Environment("/gpu-fleet/prod/services", "states", "gpu-fleet-prod")


def test_quotas_are_read_by_name():
    assert Environment.from_env({**VARIABLES, "QUOTAS": '{"G and VT": 64}'}).vcpu_quotas == {"G and VT": 64}


@pytest.mark.parametrize("name", ["SERVICES_PATH", "STATE_TABLE", "STACK"])
@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_missing_variable_is_named(name, value):
    env = {**VARIABLES, name: value}
    with pytest.raises(EnvironmentVariableError, match=f"^{name}: must be set"):
        Environment.from_env({key: text for key, text in env.items() if text is not None})


@pytest.mark.parametrize(
    ("quotas", "message"),
    [
        ("{", "QUOTAS: must be a JSON object"),
        ("[64]", "QUOTAS: must be a JSON object"),
        ('{"G": "many"}', "QUOTAS: G: must be a whole number of vCPUs, 0 or more (got 'many')"),
        ('{"G": -1}', "QUOTAS: G: must be a whole number of vCPUs, 0 or more (got -1)"),
        ('{"G": true}', "QUOTAS: G: must be a whole number of vCPUs, 0 or more (got True)"),
    ],
)
def test_invalid_quotas_are_refused(quotas, message):
    with pytest.raises(EnvironmentVariableError) as refused:
        Environment.from_env({**VARIABLES, "QUOTAS": quotas})
    assert message in str(refused.value)


def test_a_relative_path_is_refused():
    with pytest.raises(EnvironmentVariableError, match="SERVICES_PATH: must start with /"):
        Environment.from_env({**VARIABLES, "SERVICES_PATH": "services"})
