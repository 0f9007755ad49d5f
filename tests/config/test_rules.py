"""Every rule that refuses a stack's file, with its whole message and place.

Each of these files once passed, and ended in a traceback of the program or a refusal by AWS.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from gpu_fleet.config.library import Library, collect
from gpu_fleet.config.yaml_files import library_texts, read_library
from gpu_fleet.scaling.policy import RoutingPolicy, RoutingStrategy
from infra.stack_problems import stack_problems

GOOD = """\
config:
  aws:region: us-east-1
  gpu-fleet:network: {zones: [us-east-1a, us-east-1b]}
  gpu-fleet:load_balancer: {internal: true}
  gpu-fleet:services:
    chat:
      policy: chat
      paths: ["/v1/*"]
      priority: 100
      container: {image: "vllm/vllm-openai:v1"}
      pools:
        l4: {types: [g6.xlarge], min: 1, max: 4}
"""

SECOND = """\
    code:
      policy: chat
      paths: [/v2/*]
      priority: 200
      container: {image: "vllm/vllm-openai:v1"}
      pools:
        l4: {types: [g6.xlarge], min: 1, max: 4}
"""

TRAINING = """\
    tune:
      policy: training
      container: {image: tune}
      pools:
        l40s: {types: [g6e.xlarge], min: 0, max: 4}
"""


@pytest.fixture(scope="module")
def library(root: Path) -> Library:
    return read_library(root)


def problems_of(folder: Path, library: Library, text: str, stack: str = "dev", project: str = "gpu-fleet") -> list[str]:
    (folder / f"Pulumi.{stack}.yaml").write_text(text)
    return [str(problem) for problem in sorted(set(stack_problems(folder, stack, library, project)))]


def changed(old: str, new: str, text: str = GOOD) -> str:
    assert old in text, old
    return text.replace(old, new, 1)


def services(count: int, pools: str = "l4: {types: [g6.xlarge], min: 1, max: 4}") -> str:
    """GOOD with `count` more services."""
    return GOOD + "".join(
        SECOND.replace("code:", f"s{i}:")
        .replace("/v2/", f"/{i + 2}/")
        .replace("200", str(200 + i))
        .replace("l4: {types: [g6.xlarge], min: 1, max: 4}", pools)
        for i in range(count)
    )


CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/0"
SIXTY = [f"10.{i}.0.0/16" for i in range(61)]


def with_tags(tags: str) -> str:
    return GOOD + f"  gpu-fleet:tags: {{{tags}}}\n"


def with_clients(more: str) -> str:
    return changed("{internal: true}", f"{{{more}}}")


def with_boot(keys: str) -> str:
    return changed("      pools:", f"      boot: {{{keys}}}\n      pools:")


LOGIN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:ecr-pullthroughcache/hub-AbCdEf"


def with_cache(caches: str) -> str:
    return GOOD + f"  gpu-fleet:image_caches: {{{caches}}}\n"


def in_container(more: str) -> str:
    return changed('{image: "vllm/vllm-openai:v1"}', f'{{image: "vllm/vllm-openai:v1", {more}}}')


def in_pool(more: str) -> str:
    return changed("max: 4}", f"max: 4, {more}}}")


def renamed(service: str, pool: str, service_2: str, pool_2: str) -> str:
    text = changed("        l4:", f"        {pool}:", changed("chat:", f"{service}:"))
    return text + changed("        l4:", f"        {pool_2}:", changed("code:", f"{service_2}:", SECOND))


RULES: dict[str, tuple[str, list[str]]] = {
    # what is wrong: the file, and every reported line after `Pulumi.dev.yaml:`
    # tags
    "a tag's value of 257 characters": (
        with_tags(f"team: {'x' * 257}"),
        ["13:20: gpu-fleet:tags.team: must be at most 256 characters (got 257)"],
    ),
    "47 tags beside the program's four": (
        with_tags(", ".join(f"t{i}: x" for i in range(47))),
        ["13:3: gpu-fleet:tags: must be at most 46 tags: a resource has 50, and the program adds 4 (got 47)"],
    ),
    "tags that differ by case": (
        with_tags("Team: a, team: b"),
        [("13:29: gpu-fleet:tags.team: must differ from Team by more than case, which IAM ignores (got team)")],
    ),
    "a tag with a space": (
        with_tags("cost center: ml"),
        [
            (
                "13:20: gpu-fleet:tags.cost center: must be letters, digits and + - = . _ : @, which instances show "
                "in their metadata (got cost center)"
            )
        ],
    ),
    "a tag with a slash": (
        with_tags("kubernetes.io/cluster/a: owned"),
        [
            (
                "13:20: gpu-fleet:tags.kubernetes.io/cluster/a: must be letters, digits and + - = . _ : @, which "
                "instances show in their metadata (got kubernetes.io/cluster/a)"
            )
        ],
    ),
    "a tag with a comma": (
        with_tags('"a,b": x'),
        [
            (
                "13:20: gpu-fleet:tags.a,b: must be letters, digits and + - = . _ : @, which instances show in their "
                "metadata (got a,b)"
            )
        ],
    ),
    "a tag of AWS": (
        with_tags("aws:owner: me"),
        ["13:20: gpu-fleet:tags.aws:owner: must not begin with aws:, which AWS reserves (got aws:owner)"],
    ),
    "a tag of 129 characters": (
        with_tags(f"{'k' * 129}: x"),
        [
            (
                "13:20: gpu-fleet:tags.kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
                "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk: must be a key of at most 128 characters (got "
                "129)"
            )
        ],
    ),
    "a tag of the program": (
        with_tags("gpu-fleet:stack: x"),
        [
            (
                "13:20: gpu-fleet:tags.gpu-fleet:stack: must not be a tag that the program sets itself (got "
                "gpu-fleet:stack)"
            )
        ],
    ),
    "a tag's value that IAM refuses": (
        with_tags('team: "a#b"'),
        ["13:20: gpu-fleet:tags.team: must be letters, digits, spaces and _ . : / = + - @ (got a#b)"],
    ),
    "a tag that metadata has for itself": (
        with_tags("_index: x"),
        [
            (
                "13:20: gpu-fleet:tags._index: must be letters, digits and + - = . _ : @, which instances show in "
                "their metadata (got _index)"
            )
        ],
    ),
    # addresses
    "a client's range with host bits": (
        with_clients("allowed_cidrs: [10.0.0.1/8]"),
        [
            (
                "4:45: gpu-fleet:load_balancer.allowed_cidrs[0]: must be written from its first address, 10.0.0.0/8 "
                "(got 10.0.0.1/8)"
            )
        ],
    ),
    "a client's range out of range": (
        with_clients("allowed_cidrs: [10.0.0.256/32]"),
        [
            (
                "4:45: gpu-fleet:load_balancer.allowed_cidrs[0]: must be an IPv4 range of four numbers of 0 to 255 "
                "and a length of 0 to 32 (got 10.0.0.256/32)"
            )
        ],
    ),
    "a client's prefix out of range": (
        with_clients("allowed_cidrs: [10.0.0.0/33]"),
        [
            (
                "4:45: gpu-fleet:load_balancer.allowed_cidrs[0]: must be an IPv4 range of four numbers of 0 to 255 "
                "and a length of 0 to 32 (got 10.0.0.0/33)"
            )
        ],
    ),
    "a client's range twice": (
        with_clients("allowed_cidrs: [10.0.0.0/8, 10.0.0.0/8]"),
        ["4:57: gpu-fleet:load_balancer.allowed_cidrs[1]: must be given once (got 10.0.0.0/8 twice)"],
    ),
    "61 clients": (
        with_clients(f"allowed_cidrs: [{', '.join(SIXTY)}]"),
        [
            (
                "4:29: gpu-fleet:load_balancer.allowed_cidrs: must be at most 60 ranges: a security group has 60 "
                "rules, one for each range (got 61)"
            )
        ],
    ),
    "31 clients with TLS": (
        with_clients(f"certificate_arn: '{CERTIFICATE}', allowed_cidrs: [{', '.join(SIXTY[:31])}]"),
        [
            (
                "4:98: gpu-fleet:load_balancer.allowed_cidrs: must be at most 30 ranges: a security group has 60 "
                "rules, one for each range and two ports (got 31)"
            )
        ],
    ),
    "a network with host bits": (
        changed("{zones", "{cidr: 10.0.1.0/16, zones"),
        ["3:23: gpu-fleet:network.cidr: must be written from its first address, 10.0.0.0/16 (got 10.0.1.0/16)"],
    ),
    "a network too small for its subnets": (
        changed("{zones", "{cidr: 10.0.0.0/24, zones"),
        ["3:23: gpu-fleet:network.cidr: must be /16 to /23 (got 10.0.0.0/24)"],
    ),
    "a zone twice": (
        changed("us-east-1b", "us-east-1a"),
        ["3:23: gpu-fleet:network.zones: must differ (got us-east-1a, us-east-1a)"],
    ),
    "a zone beyond h": (
        changed("us-east-1b", "us-east-1i"),
        ["3:43: gpu-fleet:network.zones[1]: must end in a to h (got us-east-1i)"],
    ),
    "a subnet twice": (
        changed(
            "{zones: [us-east-1a, us-east-1b]}",
            "{vpc_id: vpc-0a1b2c3d, public_subnet_ids: [subnet-0a1b2c3d, subnet-0a1b2c3d], "
            "private_subnet_ids: [subnet-1a1b2c3d]}",
        ),
        ["3:82: gpu-fleet:network.public_subnet_ids[1]: must be given once (got subnet-0a1b2c3d twice)"],
    ),
    # routes
    "a host with a scheme": (
        changed('paths: ["/v1/*"]', "hosts: [https://a.example.com]"),
        [
            (
                "8:15: gpu-fleet:services.chat.hosts[0]: must be a host's name alone, without scheme, port or path "
                "(got https://a.example.com)"
            )
        ],
    ),
    "a host with a port": (
        changed('paths: ["/v1/*"]', 'hosts: ["a.example.com:8080"]'),
        [
            (
                "8:15: gpu-fleet:services.chat.hosts[0]: must be a host's name alone, without scheme, port or path "
                "(got a.example.com:8080)"
            )
        ],
    ),
    "a host without a dot": (
        changed('paths: ["/v1/*"]', "hosts: [localhost]"),
        [
            (
                "8:15: gpu-fleet:services.chat.hosts[0]: must be a host's name of at most 128 letters, digits and - ."
                " with letters after its last ., * and ? as wildcards (got localhost)"
            )
        ],
    ),
    "a path with braces": (
        changed('"/v1/*"', '"/v1/{model}"'),
        [
            (
                "8:15: gpu-fleet:services.chat.paths[0]: must be at most 128 letters, digits and _ - . $ / ~ \" ' @ : "
                "+ & ;, with * and ? as wildcards (got /v1/{model})"
            )
        ],
    ),
    "a path with a space": (
        changed('"/v1/*"', '"/v1/a b"'),
        [
            (
                "8:15: gpu-fleet:services.chat.paths[0]: must be at most 128 letters, digits and _ - . $ / ~ \" ' @ : "
                "+ & ;, with * and ? as wildcards (got /v1/a b)"
            )
        ],
    ),
    "a path of 129 characters": (
        changed('"/v1/*"', f"/{'p' * 128}"),
        [
            (
                "8:15: gpu-fleet:services.chat.paths[0]: must be at most 128 letters, digits and _ - . $ / ~ \" ' @ : "
                "+ & ;, with * and ? as wildcards (got /pppppppppppppppppppppppppppppppppppppppppppppppppppppppp...)"
            )
        ],
    ),
    "a path twice": (
        changed('"/v1/*"', "/a, /a"),
        ["8:19: gpu-fleet:services.chat.paths[1]: must be given once (got /a twice)"],
    ),
    "seven wildcards": (
        changed('"/v1/*"', '"/*/*/*/*", "/a/*/*/*"'),
        [
            (
                "8:7: gpu-fleet:services.chat.paths: must have at most 6 wildcards together with hosts, those of one "
                "listener rule (got 7)"
            )
        ],
    ),
    "a priority twice": (
        GOOD + SECOND.replace("200", "100"),
        ["16:7: gpu-fleet:services.code.priority: must differ from that of chat (got 100)"],
    ),
    "the same paths twice": (
        GOOD + SECOND.replace("/v2/*", '"/v1/*"'),
        [
            (
                "15:15: gpu-fleet:services.code.paths[0]: never gets a request: services.chat, asked first by its "
                "priority 100, takes all of them (got /v1/*)"
            )
        ],
    ),
    "a broad rule in front of a narrow one": (
        GOOD + SECOND.replace("/v2/*", "/v2/*, /v1/code/*"),
        [
            (
                "15:22: gpu-fleet:services.code.paths[1]: never gets a request: services.chat, asked first by its "
                "priority 100, takes all of them (got /v1/code/*)"
            )
        ],
    ),
    "a broad rule written below the narrow one": (
        GOOD + SECOND.replace("/v2/*", '"/*"').replace("200", "1"),
        [
            (
                "8:15: gpu-fleet:services.chat.paths[0]: never gets a request: services.code, asked first by its "
                "priority 1, takes all of them (got /v1/*)"
            )
        ],
    ),
    "a broad host in front of a narrow one": (
        changed('paths: ["/v1/*"]', 'hosts: ["*.example.com"]')
        + SECOND.replace("paths: [/v2/*]", 'hosts: [a.example.com]\n      paths: ["/v1/*"]'),
        [
            (
                "16:15: gpu-fleet:services.code.paths[0]: never gets a request: services.chat, asked first by its "
                "priority 100, takes all of them (got /v1/*)"
            )
        ],
    ),
    "training with paths, hosts and a priority": (
        GOOD
        + TRAINING.replace(
            "training\n", 'training\n      paths: ["/t/*"]\n      hosts: [t.a.com]\n      priority: 9\n'
        ),
        [
            (
                "15:7: gpu-fleet:services.tune.paths: must be left out: policy training is for training, whose jobs "
                "come from a queue (got a list of 1)"
            ),
            (
                "16:7: gpu-fleet:services.tune.hosts: must be left out: policy training is for training, whose jobs "
                "come from a queue (got a list of 1)"
            ),
            (
                "17:7: gpu-fleet:services.tune.priority: must be left out: policy training is for training, whose "
                "jobs come from a queue (got 9)"
            ),
        ],
    ),
    # container
    "a health path of 2,000": (
        in_container(f"health_path: /{'h' * 1999}"),
        ["10:49: gpu-fleet:services.chat.container.health_path: must be at most 1024 characters (got 2000)"],
    ),
    "a health path without a slash": (
        in_container("health_path: health"),
        ["10:49: gpu-fleet:services.chat.container.health_path: must be a path that begins with / (got health)"],
    ),
    "a health path that is no path of a URL": (
        in_container('health_path: "/a b"'),
        [
            (
                "10:49: gpu-fleet:services.chat.container.health_path: must be a path of a URL, other characters as "
                "%20 (got /a b)"
            )
        ],
    ),
    "two lines in the environment": (
        in_container('environment: {A: "x\\nB=y"}'),
        [
            (
                "10:63: gpu-fleet:services.chat.container.environment.A: must be one line without control characters "
                "(got x\\nB=y)"
            )
        ],
    ),
    "a bell in the environment": (
        in_container('environment: {A: "x\\a"}'),
        [
            (
                "10:63: gpu-fleet:services.chat.container.environment.A: must be one line without control characters "
                "(got x\\x07)"
            )
        ],
    ),
    "two lines in an argument": (
        in_container('args: ["a\\nb"]'),
        [("10:56: gpu-fleet:services.chat.container.args[0]: must be one line without control characters (got a\\nb)")],
    ),
    "a variable and a secret of one name": (
        in_container(
            "environment: {A: x}, secrets: {A: 'arn:aws:secretsmanager:us-east-1:123456789012:secret:a-AbCdEf'}"
        ),
        ["10:80: gpu-fleet:services.chat.container.secrets.A: must not be in environment as well (got A)"],
    ),
    "an image that Docker refuses": (
        changed("vllm/vllm-openai:v1", "vLLM OpenAI"),
        [
            (
                "10:19: gpu-fleet:services.chat.container.image: must be an image like vllm/vllm-openai:v0.11.0 (got "
                "vLLM OpenAI)"
            )
        ],
    ),
    "a queue of one's own": (
        GOOD + TRAINING.replace("{image: tune}", "{image: tune, environment: {QUEUE_URL: x}}"),
        [
            (
                "15:46: gpu-fleet:services.tune.container.environment.QUEUE_URL: must be left out: the stack sets "
                "it to its own queue (got x)"
            )
        ],
    ),
    # names
    "a service called scaler": (
        changed("chat:", "scaler:"),
        [
            (
                "6:5: gpu-fleet:services.scaler: must not have this name: its alarms would have the names of the "
                "scaler's alarms (got scaler)"
            )
        ],
    ),
    "a service that ends in -": (
        changed("chat:", "chat-:"),
        [
            (
                "6:5: gpu-fleet:services.chat-: must be a name of 1 to 20 characters a-z, 0-9, - that begins with "
                "a-z, each - between two of the others (got chat-)"
            )
        ],
    ),
    "a service with --": (
        changed("chat:", "a--b:"),
        [
            (
                "6:5: gpu-fleet:services.a--b: must be a name of 1 to 20 characters a-z, 0-9, - that begins with a-z,"
                " each - between two of the others (got a--b)"
            )
        ],
    ),
    "a pool in capitals": (
        changed("l4:", "L4:"),
        [
            (
                "12:9: gpu-fleet:services.chat.pools.L4: must be a name of 1 to 20 characters a-z, 0-9, - that begins"
                " with a-z, each - between two of the others (got L4)"
            )
        ],
    ),
    "pools that are one once joined": (
        renamed("chat", "large-l4", "chat-large", "l4"),
        [
            (
                "19:9: gpu-fleet:services.chat-large.pools.l4: must differ from services.chat.pools.large-l4 once "
                "service and pool are joined (got chat-large-l4 twice)"
            )
        ],
    ),
    "short ones too": (
        renamed("a-b", "c", "a", "b-c"),
        [
            (
                "19:9: gpu-fleet:services.a.pools.b-c: must differ from services.a-b.pools.c once service and pool "
                "are joined (got a-b-c twice)"
            )
        ],
    ),
    "a pool's prefix that matches another service's group": (
        renamed("chat", "l4", "chat-l4", "big"),
        [
            (
                "19:9: gpu-fleet:services.chat-l4.pools.big: must not begin with services.chat.pools.l4 once service "
                "and pool are joined: the names of their groups would not tell them apart (got chat-l4-big, "
                "which begins with chat-l4-)"
            )
        ],
    ),
    "a queue that is another's of failed jobs": (
        GOOD + TRAINING + TRAINING.replace("tune:", "tune-failed:"),
        [
            (
                "18:5: gpu-fleet:services.tune-failed: must not have this name: its queue would have the name of "
                "the queue of failed jobs of services.tune (got tune-failed)"
            )
        ],
    ),
    # regions
    "a certificate of another region": (
        with_clients(f"certificate_arn: '{CERTIFICATE.replace('us-east-1', 'us-west-2')}'"),
        [("4:29: gpu-fleet:load_balancer.certificate_arn: must be in us-east-1, the stack's region (got us-west-2)")],
    ),
    "a certificate of another partition": (
        with_clients(f"certificate_arn: '{CERTIFICATE.replace('aws:', 'aws-cn:', 1)}'"),
        [("4:29: gpu-fleet:load_balancer.certificate_arn: must be in aws, the partition of us-east-1 (got aws-cn)")],
    ),
    "a web ACL of CloudFront": (
        with_clients("internal: true, waf_acl_arn: 'arn:aws:wafv2:us-east-1:123456789012:global/webacl/a/0'"),
        [
            (
                "4:45: gpu-fleet:load_balancer.waf_acl_arn: must be a regional web ACL, regional/webacl/...; global/ "
                "ones are for CloudFront (got global/)"
            )
        ],
    ),
    "a topic of another region": (
        GOOD + "  gpu-fleet:observability: {alarm_topic_arn: 'arn:aws:sns:eu-west-1:123456789012:a'}\n",
        [("13:29: gpu-fleet:observability.alarm_topic_arn: must be in us-east-1, the stack's region (got eu-west-1)")],
    ),
    "a subscription in place of its topic": (
        GOOD + "  gpu-fleet:observability: {alarm_topic_arn: 'arn:aws:sns:us-east-1:123456789012:a:0-0'}\n",
        [("13:29: gpu-fleet:observability.alarm_topic_arn: must be a topic, not a subscription to one (got a:0-0)")],
    ),
    "a cache of a registry that ECR cannot cache": (
        with_cache("nvcr.io: {}"),
        [
            (
                "13:28: gpu-fleet:image_caches.nvcr.io: must be a registry that ECR can cache; did you mean ghcr.io? "
                "(got nvcr.io)"
            )
        ],
    ),
    "a cache of Docker Hub without a login": (
        with_cache("docker.io: {}"),
        [
            (
                "13:28: gpu-fleet:image_caches.docker.io: must have credentials_arn, a secret with a login to "
                "docker.io, or existing_prefix, that of a rule that exists (got neither)"
            )
        ],
    ),
    "a login whose secret has another name": (
        with_cache("docker.io: {credentials_arn: 'arn:aws:secretsmanager:us-east-1:123456789012:secret:hub-AbCdEf'}"),
        [
            (
                "13:40: gpu-fleet:image_caches.docker.io.credentials_arn: must be an ARN of a "
                "secret:ecr-pullthroughcache (got secret:hub-AbCdEf)"
            )
        ],
    ),
    "a login in another region": (
        with_cache(f"docker.io: {{credentials_arn: '{LOGIN.replace('us-east-1', 'us-west-2')}'}}"),
        [
            (
                "13:40: gpu-fleet:image_caches.docker.io.credentials_arn: must be in us-east-1, the stack's region "
                "(got us-west-2)"
            )
        ],
    ),
    "a login to a registry that has none": (
        with_cache(f"quay.io: {{credentials_arn: '{LOGIN}'}}"),
        [
            (
                "13:38: gpu-fleet:image_caches.quay.io.credentials_arn: must be left out: quay.io needs none "
                f"(got {LOGIN})"
            )
        ],
    ),
    "a login for a rule that has one": (
        with_cache(f"docker.io: {{existing_prefix: hub, credentials_arn: '{LOGIN}'}}"),
        [
            (
                "13:62: gpu-fleet:image_caches.docker.io.credentials_arn: must be left out: the existing rule has its "
                f"own (got {LOGIN})"
            )
        ],
    ),
    "a prefix that ECR refuses, and one for two registries": (
        with_cache(
            "docker.io: {existing_prefix: Hub/}, quay.io: {existing_prefix: q1}, ghcr.io: {existing_prefix: q1}"
        ),
        [
            (
                "13:40: gpu-fleet:image_caches.docker.io.existing_prefix: must be 2 to 30 characters a-z, 0-9 with "
                "/ . _ - between two of them (got Hub/)"
            ),
            "13:106: gpu-fleet:image_caches.ghcr.io.existing_prefix: must be another than that of quay.io (got q1)",
        ],
    ),
    "a secret of another region": (
        in_container("secrets: {A: 'arn:aws:secretsmanager:us-west-2:123456789012:secret:a-AbCdEf'}"),
        [
            (
                "10:59: gpu-fleet:services.chat.container.secrets.A: must be in us-east-1, the stack's region (got "
                "us-west-2)"
            )
        ],
    ),
    "a key of another region": (
        in_container(
            "secrets: {A: 'arn:aws:secretsmanager:us-east-1:123456789012:secret:a-AbCdEf'}, "
            "kms_key_arn: 'arn:aws:kms:eu-west-1:123456789012:key/0a1b'"
        ),
        [
            (
                "10:128: gpu-fleet:services.chat.container.kms_key_arn: must be in us-east-1, the stack's region (got "
                "eu-west-1)"
            )
        ],
    ),
    "a web ACL without its id": (
        with_clients("internal: true, waf_acl_arn: 'arn:aws:wafv2:us-east-1:123456789012:regional/webacl/a'"),
        [("4:45: gpu-fleet:load_balancer.waf_acl_arn: must end in regional/webacl/NAME/ID (got regional/webacl/a)")],
    ),
    "a pool's zone that the stack has not": (
        changed("max: 4", "max: 4, zones: [us-east-1a, us-east-1c, us-east-1a]"),
        [
            (
                "12:70: gpu-fleet:services.chat.pools.l4.zones[1]: must be one of network.zones, us-east-1a, "
                "us-east-1b (got us-east-1c)"
            ),
            "12:82: gpu-fleet:services.chat.pools.l4.zones[2]: must be given once (got us-east-1a twice)",
        ],
    ),
    "plain HTTP for anybody": (
        changed("  gpu-fleet:load_balancer: {internal: true}\n", "  gpu-fleet:load_balancer: {}\n"),
        [
            (
                "4:3: gpu-fleet:load_balancer.allowed_cidrs: must be given without certificate_arn or internal: "
                "true: plain HTTP would serve anybody on the internet"
            )
        ],
    ),
    # logs
    "a retention that CloudWatch does not offer": (
        GOOD + "  gpu-fleet:scaler: {log_retention_days: 31}\n",
        [
            (
                "13:22: gpu-fleet:scaler.log_retention_days: must be a number of days that CloudWatch Logs offers, "
                "like 30 (got 31)"
            )
        ],
    ),
    "a retention beyond what S3 takes": (
        with_clients("internal: true, access_log_retention_days: 3000000000"),
        ["4:45: gpu-fleet:load_balancer.access_log_retention_days: must be at most 2147483647 (got 3000000000)"],
    ),
    # pools
    "a volume smaller than the AMI": (
        in_pool("volume_gib: 74"),
        [("12:50: gpu-fleet:services.chat.pools.l4.volume_gib: must be at least 75: the size of the AMI (got 74)")],
    ),
    "a volume smaller than AMI, image and weights, off the instance store": (
        in_pool("volume_gib: 80").replace("      pools:", "      boot: {instance_store: false}\n      pools:"),
        [
            (
                "13:50: gpu-fleet:services.chat.pools.l4.volume_gib: must be at least 86: the AMI 50, the image 27, "
                "the weights of llama-3.1-8b-fp8 8.5 GiB (got 80)"
            )
        ],
    ),
    "weights that no known engine streams": (
        changed('{image: "vllm/vllm-openai:v1"}', "{image: 'own/engine:1'}", with_boot("weights: {load: stream}")),
        [
            (
                "11:24: gpu-fleet:services.chat.boot.weights.load: must be copy: of the engines that we know, vLLM "
                "alone streams (got stream)"
            )
        ],
    ),
    "weights of a model without a name": (
        with_boot("weights: {}"),
        [
            (
                "10:7: gpu-fleet:services.chat.container.args: must name the model, as without boot.weights: it is "
                "the name that requests use (got no model)"
            )
        ],
    ),
    "a folder and a bucket that S3 has not": (
        changed(
            '"vllm/vllm-openai:v1"}',
            '"vllm/vllm-openai:v1", args: [own/model]}',
            with_boot("weights: {bucket: My_Bucket, prefix: /a}"),
        ),
        [
            (
                "11:24: gpu-fleet:services.chat.boot.weights.bucket: must be a bucket's name of 3 to 63 characters "
                "(got My_Bucket)"
            ),
            (
                "11:43: gpu-fleet:services.chat.boot.weights.prefix: must be letters, digits and ! - _ . ' ( ) with "
                "single / (got /a)"
            ),
        ],
    ),
    "a baked AMI of several AMIs": (
        changed(
            "max: 4}",
            "max: 4, ami_parameter: /aws/service/a}\n        b: {types: [g6.2xlarge], min: 0, max: 1, "
            "ami_parameter: /aws/service/b}",
            with_boot("baked_ami: true"),
        ),
        [
            (
                "14:50: gpu-fleet:services.chat.pools.b.ami_parameter: must be /aws/service/a, as in the first pool: "
                "boot.baked_ami makes one AMI (got /aws/service/b)"
            )
        ],
    ),
    "a baked AMI of one that Image Builder may not read": (
        changed("max: 4}", "max: 4, ami_parameter: /mine}", with_boot("baked_ami: true")),
        [
            (
                "13:50: gpu-fleet:services.chat.pools.l4.ami_parameter: must begin with /aws/service/ or "
                "/imagebuilder/ and name no version: with boot.baked_ami, Image Builder reads it (got /mine)"
            )
        ],
    ),
    "a baked AMI whose build has no way to AWS": (
        changed("us-east-1b]}", "us-east-1b], nat: none}", with_boot("baked_ami: true")),
        [
            (
                "11:14: gpu-fleet:services.chat.boot.baked_ami: must be false without a NAT gateway, by which Image "
                "Builder's instance reaches AWS"
            )
        ],
    ),
    "a volume without room for the baked image": (
        with_boot("baked_ami: true").replace("max: 4}", "max: 4, volume_gib: 76}"),
        [
            (
                "13:50: gpu-fleet:services.chat.pools.l4.volume_gib: must be at least 77: the AMI 50, the image 27 "
                "GiB (got 76)"
            )
        ],
    ),
    "more throughput than the IOPS carry": (
        with_boot("volume_iops: 3000, volume_throughput_mib_per_second: 751"),
        [
            (
                "11:33: gpu-fleet:services.chat.boot.volume_throughput_mib_per_second: must be at most 750, a quarter "
                "of volume_iops (got 751)"
            )
        ],
    ),
    "more IOPS than the volume's size carries": (
        with_boot("volume_iops: 50000").replace("max: 4}", "max: 4, volume_gib: 99}"),
        [
            (
                "11:14: gpu-fleet:services.chat.boot.volume_iops: must be at most 49500, 500 for each GiB of pool "
                "l4's volume (got 50000)"
            )
        ],
    ),
    "rates that no gp3 volume has": (
        with_boot("volume_iops: 80001, volume_throughput_mib_per_second: 100"),
        [
            "11:14: gpu-fleet:services.chat.boot.volume_iops: must be at most 80000 (got 80001)",
            ("11:34: gpu-fleet:services.chat.boot.volume_throughput_mib_per_second: must be at least 125 (got 100)"),
        ],
    ),
    "Inferentia": (
        changed("g6.xlarge", "inf2.xlarge"),
        [
            (
                "12:22: gpu-fleet:services.chat.pools.l4.types[0]: must be a type with NVIDIA GPUs; inf types have "
                "AWS Inferentia (got inf2.xlarge)"
            )
        ],
    ),
    "Trainium": (
        changed("g6.xlarge", "trn1.2xlarge"),
        [
            (
                "12:22: gpu-fleet:services.chat.pools.l4.types[0]: must be a type with NVIDIA GPUs; trn types have "
                "AWS Trainium (got trn1.2xlarge)"
            )
        ],
    ),
    "a GPU of AMD": (
        changed("g6.xlarge", "g4ad.xlarge"),
        [
            (
                "12:22: gpu-fleet:services.chat.pools.l4.types[0]: must be a type with NVIDIA GPUs; g4ad types have "
                "AMD GPUs (got g4ad.xlarge)"
            )
        ],
    ),
    "no GPU at all": (
        changed("g6.xlarge", "m7i.large"),
        [
            (
                "12:22: gpu-fleet:services.chat.pools.l4.types[0]: must be a type with NVIDIA GPUs; m7i types have no"
                " GPU (got m7i.large)"
            )
        ],
    ),
    "a type that is not there": (
        changed("g6.xlarge", "g6.xlrge"),
        [
            (
                "12:22: gpu-fleet:services.chat.pools.l4.types[0]: must be a type of catalog.yaml; did you mean "
                "g6.xlarge? (got g6.xlrge)"
            )
        ],
    ),
    "a parameter's name that SSM refuses": (
        in_pool("ami_parameter: /my ami"),
        [
            (
                "12:50: gpu-fleet:services.chat.pools.l4.ami_parameter: must be an SSM parameter's name that begins "
                "with /, of letters, digits and . - _ / and at most 1011 characters (got /my ami)"
            )
        ],
    ),
    "an ARM type under an image for x86_64": (
        changed("g6.xlarge", "g5g.xlarge"),
        [
            (
                "12:22: gpu-fleet:services.chat.pools.l4.types[0]: must have the processor that ami_parameter names "
                "(got g5g.xlarge, which is arm64)"
            )
        ],
    ),
    "a GPU too old for the image's driver": (
        changed("g6.xlarge", "p3.2xlarge"),
        [
            (
                "12:22: gpu-fleet:services.chat.pools.l4.types[0]: must have GPUs that the open NVIDIA driver of "
                "ami_parameter drives, T4 or newer (got p3.2xlarge)"
            )
        ],
    ),
    # engines
    "SGLang without metrics": (
        changed("vllm/vllm-openai:v1", "lmsysorg/sglang:v0.5.5"),
        [
            (
                "10:7: gpu-fleet:services.chat.container.args: must have --enable-metrics, without which sglang "
                "publishes no metrics, and its load is unknown (got none)"
            )
        ],
    ),
    "llama.cpp without metrics": (
        changed(
            '"vllm/vllm-openai:v1"', '"ghcr.io/ggml-org/llama.cpp:server-cuda", args: [-m, /m.gguf, --metrics-off]'
        ),
        [
            (
                "10:68: gpu-fleet:services.chat.container.args: must have --metrics, without which llama.cpp "
                "publishes no metrics, and its load is unknown (got -m /m.gguf --metrics-off)"
            )
        ],
    ),
    "Triton's health path": (
        changed("vllm/vllm-openai:v1", "nvcr.io/nvidia/tritonserver:25.09-trtllm-python-py3"),
        [
            (
                "10:7: gpu-fleet:services.chat.container.health_path: must be a path that triton answers, as "
                "/v2/health/ready (got /health)"
            )
        ],
    ),
    # sizes
    "rights of instances over 10,240": (
        in_container(
            "secrets: {"
            + ", ".join(
                f"A{i}: 'arn:aws:secretsmanager:us-east-1:123456789012:secret:{'s' * 300}{i}'" for i in range(30)
            )
            + "}"
        ),
        [
            (
                "10:49: gpu-fleet:services.chat.container.secrets: must make an IAM policy of at most 10240 "
                "characters for the instances (got 12017)"
            ),
        ],
    ),
    "rights of the scaler over 6,144": (
        changed(
            "l4: {types: [g6.xlarge], min: 1, max: 4}",
            "\n        ".join(
                f"p{i}: {{types: [g6.xlarge], min: 1, max: 4, spot_percent: 50, ami_parameter: /{'a' * 900}{i}}}"
                for i in range(5)
            ),
        ),
        [
            (
                "11:7: gpu-fleet:services.chat.pools: must make an IAM policy of at most 6144 characters for the "
                "scaler; shorten ami_parameter or take fewer pools (got 7904)"
            )
        ],
    ),
    "101 target groups": (
        services(100),
        [
            (
                "5:3: gpu-fleet:services: must have at most 100 pools together, the target groups of one load "
                "balancer; split them over several stacks (got 101)"
            )
        ],
    ),
    "more services with spot than the scaler's role holds": (
        services(80, "l4: {types: [g6.xlarge], min: 1, max: 4, spot_percent: 50}"),
        [
            (
                "5:3: gpu-fleet:services: must be at most 73 of this kind: the scaler's role takes 10 policies of "
                "6144 characters; split them over several stacks (got 81)"
            )
        ],
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_file_is_refused_where_and_why(tmp_path: Path, library: Library, rule: str) -> None:
    text, expected = RULES[rule]
    assert problems_of(tmp_path, library, text) == [f"Pulumi.dev.yaml:{line}" for line in expected]


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD + SECOND + TRAINING,
        services(32),
        with_tags(", ".join(f"t{i}: x" for i in range(46))),
        with_tags(f"team: {'x' * 256}, {'k' * 128}: '', name: é b"),
        with_clients(f"allowed_cidrs: [{', '.join(SIXTY[:60])}]"),
        with_clients(f"certificate_arn: '{CERTIFICATE}', allowed_cidrs: [{', '.join(SIXTY[:30])}]"),
        changed('"/v1/*"', "\"/v1/$-_.~'@:+&;?\", '/\"'"),
        changed('"/v1/*"', f"/{'p' * 127}"),
        changed('paths: ["/v1/*"]', 'hosts: ["*.example.com", a-b.example.?om]'),
        GOOD + SECOND.replace("/v2/*", '"/*"'),
        GOOD + SECOND.replace("paths: [/v2/*]", 'hosts: [a.example.com]\n      paths: ["/v2/*"]'),
        in_container(f"health_path: '/{'h' * 1022}?'"),
        in_container('environment: {A: "tab\tand émoji 🎉"}'),
        in_pool("volume_gib: 75"),
        with_boot("instance_store: false").replace("max: 4}", "max: 4, volume_gib: 86}"),
        with_boot("baked_ami: true").replace("max: 4}", "max: 4, volume_gib: 77}"),
        with_boot("baked_ami: true").replace("max: 4}", "max: 4, ami_parameter: /imagebuilder/mine}"),
        with_boot("volume_iops: 40000, volume_throughput_mib_per_second: 2000"),
        changed('"vllm/vllm-openai:v1"', '"lmsysorg/sglang:v1", args: [bash, -c, "launch_server --enable-metrics"]'),
        changed(
            '"vllm/vllm-openai:v1"',
            '"ghcr.io/ggml-org/llama.cpp:server", environment: {LLAMA_ARG_ENDPOINT_METRICS: "1"}',
        ),
        changed('"vllm/vllm-openai:v1"', '"nvcr.io/nvidia/tritonserver:v1", health_path: /v2/health/live'),
        changed("vllm/vllm-openai:v1", "my/sglang:v1"),
        GOOD + TRAINING.replace("image: tune", "image: 'lmsysorg/sglang:v1'"),
        changed("vllm/vllm-openai:v1", "123456789012.dkr.ecr.us-east-1.amazonaws.com/a/b_c:v1@sha256:" + "0" * 64),
    ],
)
def test_a_file_within_awss_limits_is_accepted(tmp_path: Path, library: Library, text: str) -> None:
    assert problems_of(tmp_path, library, text) == []


STACKS = {
    "my_stack": "must be a-z and 0-9, with single - between them: AWS's names contain it (got my_stack)",
    "v1.2": "must be a-z and 0-9, with single - between them: AWS's names contain it (got v1.2)",
    "Prod": "must be a-z and 0-9, with single - between them: AWS's names contain it (got Prod)",
    "dev-": "must be a-z and 0-9, with single - between them: AWS's names contain it (got dev-)",
    "s" * 48: "must be at most 47 characters: the function gpu-fleet-<stack>-scaler has at most 64 (got 48)",
}


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_is_refused_by_its_name(tmp_path: Path, library: Library, stack: str) -> None:
    assert problems_of(tmp_path, library, GOOD, stack) == [f"Pulumi.{stack}.yaml:1:1: stack name: {STACKS[stack]}"]


def test_access_logs_need_a_shorter_name(tmp_path: Path, library: Library) -> None:
    text = with_clients("internal: true, access_logs: true")
    assert problems_of(tmp_path, library, text, "s" * 33) == []
    assert problems_of(tmp_path, library, GOOD, "s" * 47) == []
    assert problems_of(tmp_path, library, text, "s" * 34) == [
        (
            f"Pulumi.{'s' * 34}.yaml:1:1: stack name: must be at most 33 characters: the access logs' bucket "
            "gpu-fleet-<stack>-access-logs has at most 63 with 8 of Pulumi's (got 34)"
        )
    ]


@pytest.mark.parametrize(
    ("project", "start"), [("aws-fleet", "aws"), ("ssm", "ssm"), ("internal", "internal-"), ("sg", "sg-")]
)
def test_a_project_whose_start_aws_reserves_is_refused(
    tmp_path: Path, library: Library, project: str, start: str
) -> None:
    (found,) = problems_of(tmp_path, library, GOOD.replace("gpu-fleet:", f"{project}:"), project=project)
    assert f"stack name: must not make names that begin with {start}" in found


def test_a_project_with_another_name_has_its_keys_under_it(tmp_path: Path, library: Library) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: my-fleet\nruntime: python\n")
    mine = GOOD.replace("gpu-fleet:", "my-fleet:")
    (tmp_path / "Pulumi.dev.yaml").write_text(mine)
    assert stack_problems(tmp_path, "dev", library) == []
    (tmp_path / "Pulumi.dev.yaml").write_text(changed("max: 4", "max: 0", mine))
    assert list(map(str, stack_problems(tmp_path, "dev", library))) == [
        "Pulumi.dev.yaml:12:42: my-fleet:services.chat.pools.l4.max: must be at least 1 (got 0)"
    ]
    (tmp_path / "Pulumi.dev.yaml").write_text(GOOD)
    assert [str(p)[:60].rpartition(":")[0] for p in sorted(stack_problems(tmp_path, "dev", library))][:3] == [
        "Pulumi.dev.yaml:1:1: my-fleet:load_balancer.allowed_cidrs",
        "Pulumi.dev.yaml:1:1: my-fleet:network",
        "Pulumi.dev.yaml:1:1: my-fleet:services",
    ]
    (tmp_path / "Pulumi.yaml").write_text("name: My_Fleet\nruntime: python\n")
    assert "Pulumi.yaml:1:1: name: must be a-z and 0-9, with single - between them" in str(
        stack_problems(tmp_path, "dev", library)[0]
    )


def test_a_boot_script_over_16_kb_is_refused(tmp_path: Path, library: Library) -> None:
    """What is sent counts: a text that repeats is compressed, one that does not is not."""
    digits = "".join(hashlib.sha256(bytes([i])).hexdigest() for i in range(256))
    assert problems_of(tmp_path, library, in_container(f"environment: {{A: {'x' * 16000}}}")) == []
    (problem,) = problems_of(tmp_path, library, in_container(f"environment: {{A: {digits}}}"))
    begin, _, got = problem.rpartition(" (got ")
    assert begin == (
        "Pulumi.dev.yaml:10:7: gpu-fleet:services.chat.container: must make a boot script of at most 16384 bytes, "
        "compressed, with its args, environment and secrets"
    )
    assert 16384 < int(got.rstrip(")")) < 24000


def test_a_service_whose_policy_does_not_fit_into_a_parameter_is_refused(tmp_path: Path, library: Library) -> None:
    wordy = library.policies["chat"].model_copy(update={"description": "x" * 8000})
    other = Library({"chat": wordy}, library.catalog, library.profiles)
    (found,) = problems_of(tmp_path, other, GOOD)
    here = "Pulumi.dev.yaml:6:5: gpu-fleet:services.chat"
    assert found.startswith(f"{here}: must fit into a parameter of 8192 bytes with its policy and pools (got ")


def test_a_policy_whose_text_ssm_would_resolve_is_refused(tmp_path: Path, library: Library) -> None:
    nested = library.policies["chat"].model_copy(update={"description": "for {{team}}"})
    assert problems_of(tmp_path, Library({"chat": nested}, library.catalog, library.profiles), GOOD) == [
        (
            "Pulumi.dev.yaml:7:7: gpu-fleet:services.chat.policy: must be without {{ in its texts, which SSM takes for "
            "the name of another parameter (got chat)"
        )
    ]


def test_static_weights_must_not_all_be_zero(tmp_path: Path, library: Library) -> None:
    routing = RoutingPolicy(strategy=RoutingStrategy.STATIC, static_weights={"l4": 0})
    policy = library.policies["chat"].model_copy(update={"routing": routing})
    assert problems_of(tmp_path, Library({"chat": policy}, library.catalog, library.profiles), GOOD) == [
        (
            "Pulumi.dev.yaml:11:7: gpu-fleet:services.chat.pools: one must have a weight above 0 in policy chat's "
            "routing.static_weights (got none)"
        )
    ]


def test_one_error_hides_no_other(tmp_path: Path, root: Path) -> None:
    """Wrong types, checks over several keys, what does not fit the library and what AWS refuses: all at once."""
    texts = library_texts(root)
    texts["policies/mine.yaml"] = "model: llama-3.1-8\nslo: {ttft_seconds: fast}\nsizing: {mode: slo}\n"
    texts["policies/catalog.yaml"] = texts["policies/catalog.yaml"].replace("vcpus: 4", "vcpus: 0", 1)
    found, problems = collect(texts)
    text = GOOD.replace("{internal: true}", "{allowed_cidrs: [10.0.0.1/8], idle_timeout_seconds: 0}")
    text = text.replace("min: 1, max: 4", "min: one, max: 4, volume_gib: 40") + SECOND.replace("g6.xlarge", "g6.xlrge")
    text = text.replace("[/v2/*]", '["/v1/a"]') + SECOND.replace("code: ", "Late: ").replace("code:", "Late:").replace(
        "policy: chat", "policy: mine"
    )
    (tmp_path / "Pulumi.dev.yaml").write_text(text + "  gpu-fleet:tags: {a b: c}\n  gpu-fleet:scalar: 1\n")
    problems += stack_problems(tmp_path, "dev", found, "gpu-fleet")
    keys = {problem.key.removeprefix("gpu-fleet:") for problem in problems}
    assert {
        "model", "slo.ttft_seconds", "types.g5.xlarge.vcpus", "load_balancer.allowed_cidrs[0]",
        "load_balancer.idle_timeout_seconds", "services.chat.pools.l4.min", "services.chat.pools.l4.volume_gib",
        "services.code.pools.l4.types[0]", "services.code.paths[0]", "services.Late", "services.Late.priority",
        "tags.a b", "scalar",
    } <= keys  # fmt: skip


HASH = {"routing": {"strategy": "hash", "hash_header": "x-session-id"}}
STICKY = {"routing": {"strategy": "sticky"}}
TWO_POOLS = GOOD + "        l40s: {types: [g6e.xlarge], min: 0, max: 2}\n"


@pytest.mark.parametrize(("routing", "text", "expected"), [
    (HASH, TWO_POOLS, []),
    (HASH, GOOD, [
        ("11:7: gpu-fleet:services.chat.pools: must be at least 2 for policy chat, whose strategy hash chooses a pool "
        "(got 1)"),
    ]),
    (HASH, TWO_POOLS.replace('["/v1/*"]', "[/a, /b, /c, /d, /e]"), [
        ("8:7: gpu-fleet:services.chat.paths: must have at most 4 values together with hosts for policy chat, whose "
        "strategy hash adds one (got 5)"),
    ]),
    (HASH, TWO_POOLS.replace('["/v1/*"]', "['/a/*/*/*/*/*/*']"), [
        ("8:7: gpu-fleet:services.chat.paths: must have at most 5 wildcards together with hosts for policy chat, whose "
        "strategy hash adds one (got 6)"),
    ]),
    (HASH, TWO_POOLS.replace("priority: 100", "priority: 10"), [
        ("9:7: gpu-fleet:services.chat.priority: must be above 10 for policy chat, whose strategy hash takes the 10 "
        "priorities before (got 10)"),
    ]),
    (STICKY, GOOD, []),
    (STICKY, TWO_POOLS, [
        ("13:37: gpu-fleet:services.chat.pools.l40s.min: must be at least 1 for policy chat: sticky clients of an "
        "empty pool get 503 (got 0)"),
    ]),
])  # fmt: skip
def test_affinity_needs_pools_and_rules(
    tmp_path: Path, library: Library, routing: dict[str, object], text: str, expected: list[str]
) -> None:
    policy = library.policies["chat"].model_copy(update={"routing": RoutingPolicy.model_validate(routing["routing"])})
    problems = problems_of(tmp_path, Library({"chat": policy}, library.catalog, library.profiles), text)
    assert problems == [f"Pulumi.dev.yaml:{problem}" for problem in expected]


@pytest.mark.parametrize(("priority", "fits"), [(89, True), (90, False), (99, False), (101, True)])
def test_no_other_service_has_a_priority_that_hashing_takes(
    tmp_path: Path, library: Library, priority: int, *, fits: bool
) -> None:
    policies = {
        "chat": library.policies["chat"].model_copy(update={"routing": RoutingPolicy.model_validate(HASH["routing"])}),
        "plain": library.policies["chat"],
    }
    second = SECOND.replace("policy: chat", "policy: plain").replace("priority: 200", f"priority: {priority}")
    expected = (
        f"Pulumi.dev.yaml:17:7: gpu-fleet:services.code.priority: must not be 90 to 99, which the strategy hash of "
        f"services.chat takes (got {priority})"
    )
    problems = problems_of(tmp_path, Library(policies, library.catalog, library.profiles), TWO_POOLS + second)
    assert problems == ([] if fits else [expected])


@pytest.mark.parametrize(("algorithm", "fits"), [("round_robin", True), ("fastest", False)])
def test_the_algorithm_is_one_of_a_target_group(
    tmp_path: Path, library: Library, algorithm: str, *, fits: bool
) -> None:
    text = GOOD.replace("priority: 100", f"priority: 100\n      algorithm: {algorithm}")
    expected = (
        "Pulumi.dev.yaml:10:7: gpu-fleet:services.chat.algorithm: must be one of least_outstanding_requests, "
        "round_robin, weighted_random (got fastest)"
    )
    assert problems_of(tmp_path, library, text) == ([] if fits else [expected])


def test_an_instance_store_smaller_than_image_and_weights_is_refused(tmp_path: Path, library: Library) -> None:
    def with_store(gigabytes: float) -> Library:
        small = library.catalog.types["g6.xlarge"].model_copy(update={"instance_store_gb": gigabytes})
        catalog = library.catalog.model_copy(update={"types": {**library.catalog.types, "g6.xlarge": small}})
        return Library(library.policies, catalog, library.profiles)

    (problem,) = problems_of(tmp_path, with_store(30), GOOD)
    assert problem == (
        "Pulumi.dev.yaml:12:9: gpu-fleet:services.chat.pools.l4: must have types with an instance store of at least "
        "36 GiB: the image 27, the weights of llama-3.1-8b-fp8 8.5 GiB, or boot.instance_store: false (got g6.xlarge "
        "with 28)"
    )
    assert problems_of(tmp_path, with_store(30), with_boot("instance_store: false")) == []
    assert problems_of(tmp_path, with_store(39), GOOD) == []
    # Without a store, the volume holds everything.
    (problem,) = problems_of(tmp_path, with_store(0), in_pool("volume_gib: 80"))
    assert "volume_gib: must be at least 86" in problem
