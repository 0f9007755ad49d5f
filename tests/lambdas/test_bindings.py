"""Service parameters."""

from __future__ import annotations

import json

import pytest

from lambdas.scaler import bindings


@pytest.fixture
def parameter(world):
    world.stand()
    return world.parameters["chat"]


def test_a_parameter_is_read_whole(world):
    written = world.stand(maximum=7)
    read = bindings.read(world.clients.ssm, "/gpu-fleet/test/services")
    assert read.read == (written,)
    assert read.broken == {}
    assert written.bindings.pools["l4"].target_group.startswith("targetgroup/chat-l4/")
    assert written.service.pools[0].max_instances == 7


def test_more_parameters_than_one_page_holds_are_all_read_in_order(world, parameter):
    # A page of GetParametersByPath has 10 parameters.
    for i in range(23):
        copy = json.loads(json.dumps(parameter))
        copy["service"]["name"] = f"s{i:02d}"
        world.put_parameter(f"s{i:02d}", copy)
    names = [read.name for read in bindings.read(world.clients.ssm, "/gpu-fleet/test/services").read]
    assert names == sorted(["chat", *(f"s{i:02d}" for i in range(23))])


def test_parameters_of_another_stack_are_not_read(world, parameter):
    world.clients.ssm.put_parameter(Name="/gpu-fleet/other/services/x", Value="{}", Type="String")
    assert [p.name for p in bindings.read(world.clients.ssm, "/gpu-fleet/test/services").read] == ["chat"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p["service"]["policy"].update(typo=1), "service.policy.typo: Extra inputs are not permitted"),
        (lambda p: p["service"]["pools"][0].update(min_instances=-1), "service.pools.0.min_instances: "),
        (lambda p: p["bindings"]["pools"].pop("l4"), "bindings.pools: must name the service's pools ['l4', 'l40s']"),
        (lambda p: p["bindings"]["pools"]["l4"].pop("target_group_arn"), "each needs a target_group_arn"),
        (
            lambda p: p["service"].update(name="other"),
            "service.name: must be the parameter's own name chat (got other)",
        ),
        (lambda p: p.pop("bindings"), "bindings: Field required"),
    ],
)
def test_a_broken_parameter_names_its_key(parameter, spoil, message):
    spoiled = json.loads(json.dumps(parameter))
    spoil(spoiled)
    with pytest.raises(ValueError) as refused:
        bindings.parse("chat", json.dumps(spoiled))
    assert message in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '"chat"'])
def test_text_that_is_no_json_object_is_refused(world, parameter, text):
    with pytest.raises(ValueError):
        bindings.parse("chat", text)
