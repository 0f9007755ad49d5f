from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_fleet.config.boot_estimate import BootPath, expected_boot
from gpu_fleet.config.composition import services
from gpu_fleet.config.document import DocumentError
from gpu_fleet.config.library import Library
from gpu_fleet.config.settings import ExistingNetwork, NewNetwork, StackSettings
from gpu_fleet.config.stack_file import parse_stack, pulumi_config, read_config, read_stack
from gpu_fleet.config.yaml_files import read_library
from gpu_fleet.scaling.policy import Vertical, VerticalMethod
from gpu_fleet.scaling.service import Alternative
from infra.stack_problems import placed, read_engine, stack_problems

GOOD = """\
config:
  aws:region: us-east-1
  gpu-fleet:load_balancer: {internal: true}
  gpu-fleet:network: {zones: [us-east-1a, us-east-1b]}
  gpu-fleet:services:
    chat:
      policy: chat
      paths: ["/v1/*"]
      priority: 100
      container: {image: "vllm/vllm-openai:v1"}
      pools:
        l4: {types: [g6.xlarge], min: 1, max: 4}
"""


def settings_of(text: str) -> StackSettings:
    return parse_stack(text, "Pulumi.dev.yaml")[0]


def errors(text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        parse_stack(text, "Pulumi.dev.yaml")
    return [str(problem) for problem in caught.value.problems]


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def test_keys_of_other_programs_are_left_alone() -> None:
    assert settings_of(GOOD).region == "us-east-1"


def test_min_above_max_is_placed_at_min_under_the_key_as_typed() -> None:
    assert errors(changed("min: 1, max: 4", "min: 5, max: 4")) == [
        "Pulumi.dev.yaml:12:34: gpu-fleet:services.chat.pools.l4.min: must be at most max, 4 (got 5)"
    ]


def test_six_pools_are_too_many() -> None:
    six = "\n".join(f"        p{i}: {{types: [g6.xlarge], min: 0, max: 1}}" for i in range(6))
    assert errors(changed("        l4: {types: [g6.xlarge], min: 1, max: 4}", six)) == [
        "Pulumi.dev.yaml:11:7: gpu-fleet:services.chat.pools: must be at most 5 pools (got 6)"
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("aws:region: us-east-1", "aws:regin: us-east-1", ":1:1: aws:region: is missing"),
        ("aws:region: us-east-1", "aws:region: mars", ":2:3: aws:region: must be a region like us-east-1 (got mars)"),
        ("gpu-fleet:services", "gpu-fleet:service", ":5:3: gpu-fleet:service: unknown key; did you mean services?"),
        ("us-east-1b", "us-west-2b", ":4:43: gpu-fleet:network.zones[1]: must be a zone of us-east-1 (got us-west-2b)"),
        (", us-east-1b", "", ":4:23: gpu-fleet:network.zones: must be at least 2 zones (got 1)"),
        ("us-east-1b", "us-east-1a", "gpu-fleet:network.zones: must differ (got us-east-1a, us-east-1a)"),
        ("{zones:", "{cidr: 10.0.0.0/8, zones:", "gpu-fleet:network.cidr: must be /16 to /23 (got 10.0.0.0/8)"),
        ("{zones:", "{cidr: 10.0.0.300/16, zones:", "gpu-fleet:network.cidr: must be an IPv4 range"),
        ("{zones:", "{nat: two, zones:", "network.nat: must be one of one, per_zone, none (got two)"),
        ("min: 1", "min: -1", "pools.l4.min: must be at least 0 (got -1)"),
        ("max: 4", "max: 0", "pools.l4.max: must be at least 1 (got 0)"),
        ("max: 4", "max: 4, spot: 50", "pools.l4.spot: unknown key; did you mean spot_percent?"),
        ("max: 4", "max: 4, spot_percent: 101", "spot_percent: must be at most 100 (got 101)"),
        ("[g6.xlarge]", "[]", "pools.l4.types: must be at least 1 types (got 0)"),
        ("[g6.xlarge]", "[g6.xlarge, g6.xlarge]", "pools.l4.types[1]: must be given once (got g6.xlarge twice)"),
        (
            "max: 4",
            "max: 4, alternatives: [[g6e.xlarge], [g5.xlarge, g6.xlarge]]",
            "pools.l4.alternatives[1][1]: must be given once (got g6.xlarge twice)",
        ),
        ("max: 4", "max: 4, alternatives: [[]]", "pools.l4.alternatives[0]: must be at least 1"),
        (
            "        l4:",
            "        L4:",
            ":12:9: gpu-fleet:services.chat.pools.L4: must be a name of 1 to 20 characters a-z, 0-9, - that begins",
        ),
        ("priority: 100", "priority: 0", "priority: must be at least 1 (got 0)"),
        ("      priority: 100\n", "", "chat.priority: must be given where the service has paths or hosts"),
        ('"/v1/*"', "v1", "chat.paths[0]: must be a path pattern that begins with / (got v1)"),
        ('["/v1/*"]', "[/a, /b, /c, /d, /e, /f]", "chat.paths: must be at most 5 together with hosts"),
        ("{image:", "{port: 70000, image:", "container.port: must be at most 65535 (got 70000)"),
        ("{image:", "{environment: {HF TOKEN: x}, image:", "container.environment"),
        (
            "{image:",
            "{kms_key_arn: alias/mine, image:",
            "container.kms_key_arn: must be an ARN of a KMS key (got alias/mine)",
        ),
        (
            "{image:",
            "{kms_key_arn: 'arn:aws:kms:us-east-1:123456789012:key/0a1b', image:",
            "container.kms_key_arn: must be given only with secrets (got arn:aws:kms:us-east-1:123456789012:key/0a1b)",
        ),
        ("{image:", "{uses_instance_role: 1, image:", "container.uses_instance_role"),
        ("      policy: chat\n", "", "gpu-fleet:services.chat.policy: is missing"),
    ],
)
def test_a_wrong_key_is_reported_with_its_place_and_what_is_allowed(old: str, new: str, expected: str) -> None:
    found = errors(changed(old, new))
    assert any(expected in error for error in found), found


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("load_balancer: {internal: true, idle_timeout_seconds: 4001}", "must be at most 4000 (got 4001)"),
        ("load_balancer: {internal: true, certificate_arn: mine}", "certificate_arn: must be an ARN of acm (got mine)"),
        ("load_balancer: {allowed_cidrs: [10.0.0.1]}", "allowed_cidrs[0]: must be an IPv4 range"),
        (
            "scaler: {log_retention_days: 31}",
            "log_retention_days: must be a number of days that CloudWatch Logs offers, like 30 (got 31)",
        ),
        ("scaler: {reserved_concurrency: 0}", "scaler.reserved_concurrency: must be at least 1 (got 0)"),
        ("scaler: {timeout_seconds: 901}", "timeout_seconds: must be at most 900 (got 901)"),
        ("observability: {alarm_email: me}", "alarm_email: must be an e-mail address (got me)"),
        ("observabilty: {}", "unknown key; did you mean observability?"),
        ("tags: {a: 1}", "gpu-fleet:tags.a: must be a text (got 1)"),
    ],
)
def test_every_section_is_checked(key: str, expected: str) -> None:
    text = GOOD.replace("  gpu-fleet:load_balancer: {internal: true}\n", "") if "load_balancer" in key else GOOD
    (found,) = errors(f"{text}  gpu-fleet:{key}\n")
    assert expected in found
    assert found.startswith(f"Pulumi.dev.yaml:{len(text.splitlines()) + 1}:")


def test_two_services_cannot_share_a_priority() -> None:
    second = GOOD[GOOD.index("    chat:") :].replace("chat:", "code:", 1)
    assert errors(GOOD + second) == [
        "Pulumi.dev.yaml:16:7: gpu-fleet:services.code.priority: must differ from that of chat (got 100)"
    ]


def test_a_vpc_id_makes_a_network_an_existing_one() -> None:
    existing = (
        "{vpc_id: vpc-0a1b2c3d, public_subnet_ids: [subnet-0a1b2c3d, subnet-1a1b2c3d], "
        "private_subnet_ids: [subnet-2a1b2c3d]}"
    )
    assert isinstance(settings_of(GOOD).network, NewNetwork)
    assert isinstance(settings_of(changed("{zones: [us-east-1a, us-east-1b]}", existing)).network, ExistingNetwork)
    mixed = changed("{zones: [us-east-1a, us-east-1b]}", existing.replace("}", ", cidr: 10.0.0.0/16}"))
    assert errors(mixed)[0].endswith(
        "gpu-fleet:network.cidr: unknown key; allowed: vpc_id, public_subnet_ids, private_subnet_ids, zones"
    )


def test_a_file_without_config_is_refused() -> None:
    assert errors("services: {}\n") == ["Pulumi.dev.yaml:1:1: config: must be a mapping of keys to values"]
    assert errors("") == ["Pulumi.dev.yaml:1:1: config: must be a mapping of keys to values"]


def test_keys_beside_config_are_pulumis_own() -> None:
    assert settings_of(GOOD + "encryptionsalt: v1:abc\nenvironment: [aws]\n")
    assert errors(GOOD + "conf: {}\n") == ["Pulumi.dev.yaml:13:1: conf: unknown key; did you mean config?"]


def test_an_encrypted_value_is_sent_to_secrets_manager() -> None:
    found = errors(changed("{image:", "{environment: {TOKEN: {secure: v1:abc}}, image:"))
    assert found == [
        (
            "Pulumi.dev.yaml:10:33: gpu-fleet:services.chat.container.environment.TOKEN: must not be encrypted; "
            "name a secret of Secrets Manager in container.secrets instead"
        )
    ]


def test_a_policy_file_with_the_wrong_suffix_is_reported(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/mine.yml").write_text("model: x")
    with pytest.raises(DocumentError, match=r"policies/mine\.yml: must end in \.yaml"):
        read_library(tmp_path)


def test_a_missing_stack_file_lists_the_existing_ones(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.dev.yaml").write_text(GOOD)
    with pytest.raises(DocumentError, match=r"Pulumi\.prod\.yaml: no such stack file; there is dev"):
        read_stack(tmp_path, "prod")
    with pytest.raises(DocumentError, match="no such stack file"):
        pulumi_config(tmp_path, "prod")


def test_a_file_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.dev.yaml").write_bytes(GOOD.encode() + b"# caf\xe9\n")
    with pytest.raises(DocumentError, match=r"Pulumi\.dev\.yaml:13:1: must be UTF-8 text"):
        read_stack(tmp_path, "dev")


def engine(config: dict[str, str]) -> Callable[[str], Any]:
    """What `pulumi.Config("gpu-fleet").get_object` gives for such a configuration."""

    def get_object(key: str) -> Any:
        text = config.get(f"gpu-fleet:{key}")
        return None if text is None else json.loads(text)

    return get_object


def test_the_engine_hands_over_what_the_file_says(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.dev.yaml").write_text(GOOD + "  other:key: of another program\n")
    config = pulumi_config(tmp_path, "dev")
    assert config["aws:region"] == "us-east-1"
    assert config["other:key"] == "of another program"
    reading = read_config(engine(config), config["aws:region"], "dev")
    assert reading.problems == []
    assert reading.settings == read_stack(tmp_path, "dev")[0]


def test_errors_in_what_the_engine_hands_over_name_the_file_and_the_key_as_typed(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.dev.yaml").write_text(changed("max: 4", "max: 0"))
    reading = read_config(engine(pulumi_config(tmp_path, "dev")), "us-east-1", "dev")
    assert [str(p) for p in reading.problems] == [
        "Pulumi.dev.yaml: gpu-fleet:services.chat.pools.l4.max: must be at least 1 (got 0)"
    ]


def test_errors_in_the_engines_values_get_their_lines_from_the_file(tmp_path: Path, root: Path) -> None:
    shutil.copytree(root / "policies", tmp_path / "policies")
    (tmp_path / "Pulumi.dev.yaml").write_text(changed("max: 4", "max: 0"))
    found = DocumentError(read_config(engine(pulumi_config(tmp_path, "dev")), "us-east-1", "dev").problems)
    assert str(placed(found, tmp_path, "dev")) == (
        "Pulumi.dev.yaml:12:42: gpu-fleet:services.chat.pools.l4.max: must be at least 1 (got 0)"
    )
    (tmp_path / "Pulumi.dev.yaml").write_text(GOOD)
    assert placed(found, tmp_path, "dev") is found


def test_a_misfit_is_reported_although_the_file_has_other_errors(tmp_path: Path, library: Library) -> None:
    text = changed("types: [g6.xlarge], min: 1, max: 4", "types: [g6.xlarge, g5.xlarge, g7.xlarge], min: 5, max: 4")
    (tmp_path / "Pulumi.dev.yaml").write_text(text.replace("policy: chat", "policy: chta"))
    found = [str(problem).split(": ", 1)[1] for problem in sorted(stack_problems(tmp_path, "dev", library))]
    here = "gpu-fleet:services.chat"
    assert found == [
        f"{here}.policy: must be a policy of policies/; did you mean chat? (got chta)",
        f"{here}.pools.l4.types: must share one GPU class (got g6.xlarge is L4, g5.xlarge is A10G)",
        f"{here}.pools.l4.types[2]: must be a type of catalog.yaml; did you mean g6.xlarge? (got g7.xlarge)",
        f"{here}.pools.l4.min: must be at most max, 4 (got 5)",
    ]


def test_the_program_reports_keys_that_it_never_asks_for(tmp_path: Path, root: Path) -> None:
    """The engine hands over every key; a misspelt one would only be passed over."""
    shutil.copytree(root / "policies", tmp_path / "policies")
    (tmp_path / "Pulumi.dev.yaml").write_text(GOOD + "  gpu-fleet:scalar: {memory_mb: 128}\n")
    config = pulumi_config(tmp_path, "dev")
    with pytest.raises(DocumentError) as caught:
        read_engine(tmp_path, engine(config), config["aws:region"], "dev", "gpu-fleet")
    assert str(caught.value) == "Pulumi.dev.yaml:13:3: gpu-fleet:scalar: unknown key; did you mean scaler?"


@pytest.mark.parametrize(
    "text",
    [
        "services: 1",
        "services: {chat: 1}",
        "services: {chat: {policy: 1, pools: {a: 1}}}",
        "services: {chat: {policy: chat, pools: {a: 1, b: {types: 1}, c: {types: [1]}, d: {}}}}",
        "services: {chat: {policy: chat, pools: [1]}}",
    ],
)
def test_a_file_full_of_errors_is_reported_and_never_crashes(tmp_path: Path, library: Library, text: str) -> None:
    (tmp_path / "Pulumi.dev.yaml").write_text(f"config: {{aws:region: us-east-1, gpu-fleet:{text}}}\n")
    assert stack_problems(tmp_path, "dev", library)


@pytest.fixture(scope="module")
def library(root: Path) -> Library:
    return read_library(root)


def composed(text: str, library: Library) -> list[str]:
    settings, document = parse_stack(text, "Pulumi.dev.yaml")
    with pytest.raises(DocumentError) as caught:
        services(settings, library, document)
    return [str(problem) for problem in caught.value.problems]


def test_a_services_figures_come_from_policy_catalog_and_profiles(library: Library) -> None:
    (service,) = services(settings_of(GOOD), library)
    (pool,) = service.pools
    kind = library.catalog.types["g6.xlarge"]
    assert service.name == "chat"
    assert service.policy == library.policies["chat"]
    assert pool.on_demand_usd_per_hour == kind.on_demand_usd_per_hour
    assert pool.quota == "Running On-Demand G and VT instances"
    assert pool.vcpus == 4
    assert pool.zones == ("us-east-1a", "us-east-1b")
    placement = library.profiles.models[service.policy.model].placement("L4", 1)
    assert placement is not None
    model = library.profiles.models[service.policy.model]
    boot = expected_boot(kind, model, placement, library.catalog, BootPath(instance_store=True))
    assert pool.lead_seconds == round(boot.seconds, 1)
    assert pool.reaches_slo
    # Little: C requests in service, each for service_seconds.
    assert pool.capacity == pytest.approx(pool.throughput_rps * pool.service_seconds)


def test_copies_on_one_instance_add_up(library: Library) -> None:
    one = services(settings_of(GOOD), library)[0].pools[0]
    text = changed("types: [g6.xlarge], min: 1", "types: [g6.12xlarge], gpus_per_copy: 1, min: 1")
    four = services(settings_of(text), library)[0].pools[0]
    assert four.throughput_rps == pytest.approx(4 * one.throughput_rps)
    assert four.capacity == pytest.approx(4 * one.capacity)
    assert four.slots == pytest.approx(4 * one.slots)
    assert four.slowdown == one.slowdown


def test_a_pool_has_the_capacity_of_its_weakest_type_and_the_price_of_its_first(library: Library) -> None:
    text = changed("types: [g6.xlarge], min: 1", "types: [g6.12xlarge, g6.xlarge], gpus_per_copy: 1, min: 1")
    pool = services(settings_of(text), library)[0].pools[0]
    assert pool.throughput_rps == services(settings_of(GOOD), library)[0].pools[0].throughput_rps
    assert pool.on_demand_usd_per_hour == library.catalog.types["g6.12xlarge"].on_demand_usd_per_hour


def test_each_alternative_has_its_own_figures(library: Library) -> None:
    in_place = library.policies["chat"].model_copy(update={"vertical": Vertical(method=VerticalMethod.IN_PLACE)})
    changing = Library({"chat": in_place}, library.catalog, library.profiles)
    text = changed("max: 4", "max: 4, spot_percent: 50, alternatives: [[g6e.xlarge, g6e.2xlarge], [p5.4xlarge]]")
    pool = services(settings_of(text), changing)[0].pools[0]
    alone = services(settings_of(changed("g6.xlarge], min: 1, max: 4", "p5.4xlarge], min: 1, max: 4")), library)
    assert [kind.types for kind in pool.alternatives] == [("g6e.xlarge", "g6e.2xlarge"), ("p5.4xlarge",)]
    l40s, h100 = pool.alternatives
    assert pool.throughput_rps < l40s.throughput_rps < h100.throughput_rps
    assert h100.quota == "Running On-Demand P instances"
    assert pool.with_types(h100).types == ("p5.4xlarge",)
    assert (pool.with_types(h100).name, pool.with_types(h100).max_instances) == ("l4", 4)
    for figure in Alternative.model_fields:
        assert getattr(h100, figure) == getattr(alone[0].pools[0], figure)


def test_an_unknown_alternative_is_reported_with_its_place(library: Library) -> None:
    in_place = library.policies["chat"].model_copy(update={"vertical": Vertical(method=VerticalMethod.IN_PLACE)})
    changing = Library({"chat": in_place}, library.catalog, library.profiles)
    assert composed(changed("max: 4", "max: 4, alternatives: [[g6e.xlrge]]"), changing) == [
        (
            "Pulumi.dev.yaml:12:66: gpu-fleet:services.chat.pools.l4.alternatives[0][0]: must be a type of "
            "catalog.yaml; did you mean g6e.xlarge? (got g6e.xlrge)"
        )
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "policy: chat",
            "policy: chta",
            ":7:7: gpu-fleet:services.chat.policy: must be a policy of policies/; did you mean chat?",
        ),
        (
            "[g6.xlarge]",
            "[g6.xlarge, g5.xlarge]",
            ":12:14: gpu-fleet:services.chat.pools.l4.types: must share one GPU class",
        ),
        (
            "[g6.xlarge]",
            "[g6.xlrge]",
            "pools.l4.types[0]: must be a type of catalog.yaml; did you mean g6.xlarge?",
        ),
        (
            "      pools:",
            "      vcpu_quotas: {none: 1}\n      pools:",
            "vcpu_quotas.none: must be a quota of the catalog",
        ),
        ('      paths: ["/v1/*"]\n', "", ":6:5: gpu-fleet:services.chat: must have paths or hosts"),
    ],
)
def test_a_misfit_with_the_library_is_reported_with_its_place(
    library: Library, old: str, new: str, expected: str
) -> None:
    found = composed(changed(old, new), library)
    assert any(expected in error for error in found), found


def test_a_model_too_large_for_a_type_is_refused(library: Library) -> None:
    big = library.policies["chat"].model_copy(update={"model": "llama-70b"})
    other = Library({"chat": big}, library.catalog, library.profiles)
    found = composed(GOOD, other)
    (memory,) = [problem for problem in found if "pools.l4.types[0]: GPU memory must be at least" in problem]
    assert "(got g6.xlarge with 22.4 GiB)" in memory


def test_a_policy_for_several_zones_needs_them(library: Library) -> None:
    policy = library.policies["chat"]
    wide = policy.model_copy(update={"availability": policy.availability.model_copy(update={"min_zones": 3})})
    found = composed(GOOD, Library({"chat": wide}, library.catalog, library.profiles))
    assert found == ["Pulumi.dev.yaml:4:23: gpu-fleet:network.zones: must be at least 3 for policy chat (got 2)"]
