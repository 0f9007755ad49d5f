"""The YAML that is shipped: its figures against where they come from, its schemas, its cases."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpu_fleet.cases import EXAMPLE, MODELS, cases, run
from gpu_fleet.config.composition import services
from gpu_fleet.config.document import parse
from gpu_fleet.config.library import USABLE_MEMORY_FRACTION, Library
from gpu_fleet.config.library import library as build
from gpu_fleet.config.schemas import README, SCHEMAS, readme, schemas
from gpu_fleet.config.stack_file import read_stack
from gpu_fleet.config.yaml_files import library_texts, read_library
from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.policy import LoadUnit, VerticalMethod
from gpu_fleet.scaling.profile import instance_capacity

STACKS = ("local", "dev", "prod", "vertical")


@pytest.fixture(scope="module")
def library(root: Path) -> Library:
    return read_library(root)


def shipped(root: Path) -> list[Path]:
    return [*sorted((root / "policies").glob("*.yaml")), *(root / f"Pulumi.{stack}.yaml" for stack in STACKS)]


@pytest.mark.parametrize("stack", STACKS)
def test_every_stack_composes_to_services_that_reach_their_slo(root: Path, library: Library, stack: str) -> None:
    settings, document = read_stack(root, stack)
    for service in services(settings, library, document):
        assert all(pool.reaches_slo for pool in service.pools)
        assert service.policy.mode == "enforce"


def test_prod_has_three_classes_of_gpu_with_tls_spot_waf_and_alarms(root: Path, library: Library) -> None:
    settings, _ = read_stack(root, "prod")
    pools = settings.services["chat"].pools
    assert len({library.catalog.types[pool.types[0]].gpu for pool in pools.values()}) == 3
    assert settings.load_balancer.certificate_arn
    assert settings.load_balancer.waf_acl_arn
    assert settings.observability.alarm_topic_arn
    assert any(pool.spot_percent for pool in pools.values())


def test_dev_is_one_cheap_pool_without_tls(root: Path) -> None:
    settings, _ = read_stack(root, "dev")
    assert len(settings.services["chat"].pools) == 1
    assert settings.load_balancer.certificate_arn is None


def test_vertical_has_one_pool_that_changes_types_in_place(root: Path, library: Library) -> None:
    settings, document = read_stack(root, "vertical")
    (service,) = services(settings, library, document)
    (pool,) = service.pools
    assert service.policy.vertical.method is VerticalMethod.IN_PLACE
    assert len({library.catalog.types[types.types[0]].gpu for types in (pool, *pool.alternatives)}) == 2


def test_editors_find_the_schema_in_the_first_line(root: Path) -> None:
    for path in shipped(root):
        match = re.match(r"# yaml-language-server: \$schema=(\S+)\n", path.read_text(encoding="utf-8"))
        assert match is not None, path
        assert (path.parent / match[1]).is_file(), path


def test_schemas_and_the_table_of_keys_are_current(root: Path) -> None:
    for name, text in schemas(MODELS).items():
        assert (root / SCHEMAS / name).read_text(encoding="utf-8") == text, f"{name}: run `gpu-fleet schema`"
    assert (root / README).read_text(encoding="utf-8") == readme(MODELS, EXAMPLE), "run `gpu-fleet schema`"


def test_every_key_of_the_tables_has_a_meaning(root: Path) -> None:
    rows = [line for line in (root / README).read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert [row for row in rows if re.search(r"\|\s*\|$", row)] == []


def test_the_schema_knows_each_key_that_the_files_use(root: Path) -> None:
    """What an editor would underline: the files against their own schemas, keys alone."""
    for path in shipped(root):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        schema = json.loads((path.parent / first.rpartition("=")[2]).read_text(encoding="utf-8"))
        data = parse(path.read_text(encoding="utf-8"), path.name).data
        assert list(unknown(data, schema, schema)) == [], path


def unknown(value: Any, schema: Any, whole: Any, at: str = "") -> list[str]:
    """Keys of a value that a JSON Schema does not allow."""
    options = [schema] if isinstance(schema, dict) else []
    resolved: list[Any] = []
    while options:
        option = _resolve(options.pop(), whole)
        resolved.append(option)
        options += [inner for key in ("anyOf", "oneOf", "allOf") for inner in option.get(key, [])]
    if isinstance(value, list):
        items = next((option["items"] for option in resolved if "items" in option), None)
        return [found for i, item in enumerate(value) for found in unknown(item, items, whole, f"{at}[{i}]")]
    if not isinstance(value, dict):
        return []
    known = {name: below for option in resolved for name, below in option.get("properties", {}).items()}
    patterns = [item for option in resolved for item in option.get("patternProperties", {}).items()]
    rest = [option["additionalProperties"] for option in resolved if "additionalProperties" in option]
    found = []
    for key, below in value.items():
        matching = [inner for pattern, inner in patterns if re.search(pattern, key)]
        if key in known:
            found += unknown(below, known[key], whole, f"{at}.{key}")
        elif matching:
            found += unknown(below, matching[0], whole, f"{at}.{key}")
        elif any(inner is not False for inner in rest):
            found += unknown(below, next(inner for inner in rest if inner is not False), whole, f"{at}.{key}")
        else:
            found.append(f"{at}.{key}")
    return found


def test_a_key_that_is_wrong_is_not_in_the_schema(root: Path) -> None:
    schema = json.loads((root / SCHEMAS / "stack.json").read_text(encoding="utf-8"))
    wrong = {"config": {"gpu-fleet:scaler": {"memory": 1}, "other:key": 1, "gpu-fleet:nope": 1}}
    assert unknown(wrong, schema, schema) == [".config.gpu-fleet:scaler.memory", ".config.gpu-fleet:nope"]


def _resolve(option: Any, whole: Any) -> Any:
    while "$ref" in option:
        option = whole["$defs"][option["$ref"].rpartition("/")[2]]
    return option


@pytest.mark.parametrize("name", ["chat", "chat-in-place", "batch", "training"])
def test_every_policy_carries_five_cases_or_more_and_they_hold(root: Path, library: Library, name: str) -> None:
    found, problems = cases(library, [name], lambda stack: read_stack(root, stack)[0])
    assert problems == []
    assert len(found) >= 5
    outcomes = [run(case, decide) for case in found]
    assert [(outcome.case.name, *map(str, outcome.mismatches)) for outcome in outcomes if not outcome.passed] == []


def test_the_example_of_the_page_is_a_case_that_holds(root: Path) -> None:
    chat = (root / "policies/chat.yaml").read_text(encoding="utf-8")
    texts = library_texts(root) | {"policies/chat.yaml": chat[: chat.index("cases:")] + EXAMPLE}
    found, problems = cases(build(texts), ["chat"], lambda stack: read_stack(root, stack)[0])
    assert problems == []
    assert run(found[0], decide).mismatches == ()


# --- the catalog, against AWS's own description of the types (as moto ships it) ---


def test_the_catalog_says_what_aws_says_of_each_type(library: Library) -> None:
    from moto.ec2.models.instance_types import INSTANCE_TYPES

    for name, kind in library.catalog.types.items():
        described = INSTANCE_TYPES[name]
        (gpu,) = described["GpuInfo"]["Gpus"]
        assert kind.gpu.split("-")[0] == gpu["Name"], name
        assert kind.gpus == gpu["Count"], name
        assert kind.gpu_memory_gib == pytest.approx(gpu["MemoryInfo"]["SizeInMiB"] / 1024, abs=0.05), name
        assert kind.vcpus == described["VCpuInfo"]["DefaultVCpus"], name
        assert kind.memory_gib == pytest.approx(described["MemoryInfo"]["SizeInMiB"] / 1024, rel=0.01), name
        assert kind.instance_store_gb == described["InstanceStorageInfo"]["TotalSizeInGB"], name
        assert "on-demand" in described["SupportedUsageClasses"], name
        assert ("spot" in described["SupportedUsageClasses"]) == (kind.spot_usd_per_hour is not None), name


def test_each_family_counts_against_its_own_quota(library: Library) -> None:
    codes = {name: library.catalog.quotas[kind.quota].code for name, kind in library.catalog.types.items()}
    assert {code for name, code in codes.items() if name.startswith("g")} == {"L-DB2E81BA"}
    assert {code for name, code in codes.items() if name.startswith("p")} == {"L-417A185B"}


def test_a_class_of_gpu_has_one_memory_size(library: Library) -> None:
    sizes: dict[str, set[float]] = {}
    for kind in library.catalog.types.values():
        sizes.setdefault(kind.gpu, set()).add(kind.gpu_memory_gib)
    assert all(len(found) == 1 for found in sizes.values()), sizes


def test_a_larger_type_of_a_family_costs_more(library: Library) -> None:
    for family in ("g5", "g6", "g6e"):
        kinds = [kind for name, kind in library.catalog.types.items() if name.startswith(f"{family}.")]
        prices = [kind.on_demand_usd_per_hour for kind in sorted(kinds, key=lambda kind: kind.vcpus)]
        assert prices == sorted(prices)


# --- the profiles, against the measurements that they were fitted to ---


Rows = NDArray[np.float64]


def measured(path: Path, scale: float, keep: Callable[[dict[str, str]], bool]) -> Rows:
    """Prompt, batch, tokens made, prompt seconds and token seconds, a row for each kept row of the file."""
    columns = ("prompt_size", "batch_size", "token_size", "prompt_time", "token_time")
    with path.open(newline="") as lines:
        rows = [[float(row[name]) for name in columns] for row in csv.DictReader(lines) if keep(row)]
    return np.array(rows) * np.array([1, 1, 1, scale, scale])


def line(x: Rows, y: Rows) -> tuple[float, float]:
    """Base and slope by least squares; a base below 0 is no time, so the line then goes through 0."""
    slope, base = np.polyfit(x, y, 1)
    return (float(base), float(slope)) if base >= 0 else (0.0, float(x @ y / (x @ x)))


@pytest.mark.parametrize("gpus", [2, 4])
def test_the_small_model_on_a100_is_the_fit_of_its_measurements(shared: Path, library: Library, gpus: int) -> None:
    file = shared / "profiles" / f"llama31_8b_a100_tp{gpus}.csv"
    rows = measured(file, 1, lambda row: row["batch_size"] != "64")
    prompt, batch, tokens, prompt_seconds, token_seconds = rows.T
    alone, fits = batch == 1, prompt <= 4096
    prefill = line(prompt[alone], prompt_seconds[alone])
    decode = line(batch[fits], token_seconds[fits] / tokens[fits])
    held(library, "llama-3.1-8b", "A100-80G", gpus, prefill, decode)


@pytest.mark.parametrize(("hardware", "gpu"), [("a100-80gb", "A100-80G"), ("h100-80gb", "H100")])
@pytest.mark.parametrize("gpus", [4, 8])
def test_the_large_model_is_the_fit_of_its_measurements(
    shared: Path, library: Library, hardware: str, gpu: str, gpus: int
) -> None:
    file = shared / "profiles" / "llama2_70b_a100_h100.csv"
    wanted = {"model": "llama2-70b", "hardware": hardware, "tensor_parallel": str(gpus)}
    rows = measured(file, 1e-3, lambda row: wanted.items() <= row.items())
    prompt, batch, _, prompt_seconds, token_seconds = rows.T
    # Prompts of a batch are read one after the other: prompt_time grows with prompt x batch.
    held(library, "llama-70b", gpu, gpus, line(prompt * batch, prompt_seconds), line(batch, token_seconds))


def held(
    library: Library, model: str, gpu: str, gpus: int, prefill: tuple[float, float], decode: tuple[float, float]
) -> None:
    placement = library.profiles.models[model].placement(gpu, gpus)
    assert placement is not None
    assert not placement.estimate
    assert placement.prefill_base_seconds == pytest.approx(prefill[0], rel=0.01, abs=1e-4)
    assert placement.prefill_tokens_per_second == pytest.approx(1 / prefill[1], rel=0.01)
    assert placement.decode_base_seconds == pytest.approx(decode[0], rel=0.01)
    assert placement.decode_seconds_per_sequence == pytest.approx(decode[1], rel=0.01)


def test_the_a10g_profile_gives_back_the_published_rows(library: Library) -> None:
    """Llama-3-8B FP16, vLLM 0.4.3, g5.2xlarge, 550 tokens in and 150 out: 31.9, 110.9, 289.9 tokens/s."""
    placement = library.profiles.models["llama-3.1-8b"].placement("A10G", 1)
    assert placement is not None
    for batch, published in ((1, 31.9), (4, 110.9), (16, 289.9)):
        seconds = 150 * placement.step_seconds(batch) / batch + placement.prefill_seconds(550)
        assert 150 / seconds == pytest.approx(published, rel=0.06)


def test_the_kv_cache_is_the_memory_left_beside_weights_and_activations(library: Library) -> None:
    memory = {kind.gpu: kind.gpu_memory_gib for kind in library.catalog.types.values()}
    for model in library.profiles.models.values():
        for placement in model.profiles:
            room_gib = placement.gpus * (memory[placement.gpu] * USABLE_MEMORY_FRACTION - 1.5) - model.weights_gib
            expected = room_gib * 2**30 / model.kv_bytes_per_token
            assert placement.kv_cache_tokens == pytest.approx(expected, rel=0.01), placement


def test_every_estimate_says_from_what(library: Library) -> None:
    for name, model in library.profiles.models.items():
        for placement in model.profiles:
            assert len(placement.source) > 60, (name, placement.gpu)


@pytest.mark.parametrize(
    ("gpu", "lowest", "highest"),
    # Saturated throughput published for an 8B model (docs/capacity.md): what the SLO leaves of it must lie below, and
    # not by more than half. The A100-80G row is of an engine of 2024, which newer ones double.
    [("L4", 240, 475), ("A10G", 245, 490), ("A100-80G", 760, 3000), ("H100", 1980, 3958)],
)
def test_what_a_chat_instance_carries_lies_below_what_was_published_at_saturation(
    library: Library, gpu: str, lowest: float, highest: float
) -> None:
    policy = library.policies["chat"]
    placement = library.profiles.models[policy.model].placement(gpu, 1)
    assert placement is not None
    carried = instance_capacity(placement, policy.request, policy.slo, LoadUnit.CONCURRENCY)
    assert lowest <= carried.throughput_rps * policy.request.output_tokens <= highest


def test_a_faster_class_of_gpu_carries_more(library: Library) -> None:
    policy = library.policies["chat"]
    for name in ("llama-3.1-8b", "llama-3.1-8b-fp8"):
        rates = []
        for gpu in ("L4", "A100-40G", "H100"):
            placement = library.profiles.models[name].placement(gpu, 1)
            assert placement is not None
            rates.append(instance_capacity(placement, policy.request, policy.slo, LoadUnit.CONCURRENCY).throughput_rps)
        assert rates == sorted(rates)


def test_the_ladder_of_the_document_is_the_one_of_the_files(root: Path, library: Library) -> None:
    from bench.capacity_table import table

    text = (root / "docs/capacity.md").read_text(encoding="utf-8")
    for model in (None, "llama-70b"):
        assert table(library, "chat", model) in text, (
            "run `python -m bench.capacity_table` and put its table into docs/capacity.md"
        )


def test_policy_files_are_named_for_what_they_are(root: Path) -> None:
    assert {Path(name).name for name in library_texts(root)} == {
        "batch.yaml", "catalog.yaml", "chat-in-place.yaml", "chat.yaml", "profiles.yaml", "training.yaml",
    }  # fmt: skip
