"""A small stack comes up, stays as it is, and goes."""

from __future__ import annotations

from typing import Any

STACK = """
config:
  aws:region: us-east-1
  gpu-fleet:network: {cidr: 10.0.0.0/16, zones: [us-east-1a, us-east-1b], nat: one}
  gpu-fleet:load_balancer: {allowed_cidrs: [10.0.0.0/8]}
  gpu-fleet:observability: {backstop: false, dashboard: false}
  gpu-fleet:services:
    chat:
      policy: chat
      paths: ["/v1/*"]
      priority: 100
      container: {image: "vllm/vllm-openai:v0.11.0", args: [--model, RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8]}
      pools:
        l4: {types: [g6.xlarge], min: 1, max: 3}
        h100: {types: [p5.4xlarge], min: 0, max: 2}
"""


def test_a_small_stack_comes_up_stays_as_it_is_and_goes(ground: Any) -> None:
    stack = ground.deploy(STACK)
    made = stack.up()
    assert made.changes
    stack.await_instances({"chat/l4": 1, "chat/h100": 0})
    assert set(stack.weights("chat")) == {"l4", "h100"}

    stack.weigh("chat", {"l4": 70, "h100": 30})
    before = (stack.weights("chat"), stack.instances(), stack.priorities())
    again = stack.up()
    assert again.changes == []
    assert (stack.weights("chat"), stack.instances(), stack.priorities()) == before
    assert before[0] == {"l4": 70, "h100": 30}

    stack.destroy()
    assert stack.left() == {}
