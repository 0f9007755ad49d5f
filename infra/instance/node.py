#!/usr/bin/env python3
# Runs on an instance beside the serving container, with only Python's standard library (3.9 and later):
#   node.py metrics    sends the engine's Prometheus metrics every 10 s, as gauges, to the CloudWatch agent's StatsD
#   node.py lifecycle  completes the launching hook once the model answers; drains on the terminating hook
# Its settings are environment variables, from /etc/gpu-fleet/node.env. User data omits comment lines.
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

SCRAPE_SECONDS = float(os.environ.get("SCRAPE_SECONDS", "10"))
POLL_SECONDS = float(os.environ.get("POLL_SECONDS", "5"))
HEARTBEAT_SECONDS = float(os.environ.get("HEARTBEAT_SECONDS", "60"))
ENGINE = "http://127.0.0.1:" + os.environ.get("PORT", "8000")
HEALTH_PATH = os.environ.get("HEALTH_PATH", "/health")
STATSD = ("127.0.0.1", int(os.environ.get("STATSD_PORT", "8125")))
IMDS = os.environ.get("IMDS_URL", "http://169.254.169.254")
# The policy's limits: seconds to the first token, more for each 1000 tokens of prompt, seconds per token after it.
SLO = [float(limit) for limit in os.environ.get("SLO", "").split()]

# Each gauge with its names in vLLM (v1 and v0 engine), SGLang, and a user's own container (a training worker).
GAUGES = {
    "requests_running": ("vllm:num_requests_running", "sglang:num_running_reqs", "requests_running"),
    "requests_waiting": ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "requests_waiting"),
    "jobs_running": ("jobs_running",),
    "job_remaining_seconds": ("job_remaining_seconds",),
}
BUSY = ("requests_running", "requests_waiting", "jobs_running")
SHARES = {"kv_cache_percent": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage")}
MEANS = {
    "input_tokens": ("vllm:request_prompt_tokens", "sglang:prompt_tokens_histogram"),
    "output_tokens": ("vllm:request_generation_tokens", "sglang:generation_tokens_histogram"),
    "job_seconds": ("job_seconds",),
}
FINISHED = (
    "vllm:e2e_request_latency_seconds_count",
    "sglang:e2e_request_latency_seconds_count",
    "requests_finished_total",
)
TTFT = ("vllm:time_to_first_token_seconds_bucket", "sglang:time_to_first_token_seconds_bucket")
# Mean seconds per token of each request that ended: vLLM from 0.11, SGLang where its metrics have it. Histograms of the
# gaps between tokens do not show it: a prompt that is read in between makes 10 % of the gaps long, and no request late.
TPOT = ("vllm:request_time_per_output_token_seconds_bucket", "sglang:request_time_per_output_token_seconds_bucket")
INFINITY = float("inf")
SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)")
LE = re.compile(r'le="([^"]+)"')


def parse(text):
    # Return {name: [(upper bound of a bucket or "", value)]}, one entry for each label set.
    samples = {}
    for line in text.splitlines():
        match = SAMPLE.match(line)
        if match:
            bound = LE.search(match[2] or "")
            samples.setdefault(match[1], []).append((bound[1] if bound else "", float(match[3])))
    return samples


def total(samples, name):
    return sum(value for _, value in samples.get(name, ()))


def first(names, samples):
    return next((name for name in names if name in samples), None)


def buckets(names, samples):
    name = first(names, samples)
    out = {}
    for bound, value in samples.get(name, ()):
        out[float(bound)] = out.get(float(bound), 0.0) + value
    return out


def quantile(new, old, share):
    # As Prometheus' histogram_quantile: linear within a bucket; the last finite bound if the quantile is beyond it.
    counts = sorted((bound, count - old.get(bound, 0.0)) for bound, count in new.items())
    if not counts or counts[-1][1] <= 0:
        return None
    rank, below, lower = share * counts[-1][1], 0.0, 0.0
    for bound, count in counts:
        if count >= rank:
            if bound == INFINITY:
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below) if count > below else bound
        below, lower = count, bound
    return lower


def mean(names, new, old):
    name = first([n + "_count" for n in names], new) or ""
    count, total_name = total(new, name) - total(old, name), name[: -len("count")] + "sum"
    return (total(new, total_name) - total(old, total_name)) / count if count > 0 else None


def above(counts, bound):
    return counts[INFINITY] - counts.get(bound, 0.0)


def beyond(new, old, limit):
    # Return how many of the values since the last scrape exceed the limit. Those in the limit's own bucket are split as
    # all values so far fall off across it, exponentially, as waiting times do: of 100 above 1 s, 1 of them above 2.5 s,
    # 100 * 0.01 ** (2 / 3) = 4.6 are above 2 s. A few values of 10 s would not show the slope. An empty tail is taken
    # for half a value.
    fresh = {bound: count - old.get(bound, 0.0) for bound, count in new.items()}
    upper = min(bound for bound in new if bound >= limit)
    lower = max([0.0] + [bound for bound in new if bound < limit])
    high, low, tail = above(new, lower), max(above(new, upper), 0.5), above(fresh, upper)
    if high <= low:
        return tail
    share = (high * (low / high) ** ((limit - lower) / (upper - lower)) - low) / (high - low)
    return tail + share * (above(fresh, lower) - tail)


def misses(new, old):
    # Return the requests that ended since the last scrape, and those outside the SLO, or nothing where the engine's
    # histograms do not tell. A first token is held against the limit for the mean prompt. A request that is late by
    # both limits counts once: almost all that wait too long for their first token are slow after it too (91 % of them
    # in a simulated overload), so the larger number stands for both.
    pairs = [(buckets(names, new), buckets(names, old)) for names in (TTFT, TPOT)]
    fresh = [now.get(INFINITY, -1.0) - before.get(INFINITY, 0.0) for now, before in pairs]
    if not SLO or min(fresh) < 0:
        return {}
    limit, per_1000, pace = SLO
    if per_1000:
        names = MEANS["input_tokens"]
        tokens = mean(names, new, old) or mean(names, new, {})
        if tokens is None:
            return {}
        limit += per_1000 * tokens / 1000
    late = max(beyond(*pairs[0], limit), beyond(*pairs[1], pace))
    return {"judged_requests": fresh[1], "late_requests": late}


def gauges(new, old, seconds):
    # Return the gauges of this scrape. Means, quantiles and rates are over the requests that finished since the last
    # scrape, `seconds` ago. A gauge that the engine does not report, or that no finished request has a value for, is
    # left out: missing is not zero.
    out = {}
    for gauge, names in GAUGES.items():
        name = first(names, new)
        if name:
            out[gauge] = total(new, name)
    for gauge, names in SHARES.items():
        name = first(names, new)
        if name:
            out[gauge] = 100 * total(new, name) / len(new[name])
    if old is None:
        return out
    for gauge, names in MEANS.items():
        value = mean(names, new, old)
        if value is not None:
            out[gauge] = value
    name = first(FINISHED, new)
    if name and name in old and total(new, name) >= total(old, name):
        out["finished_rps"] = (total(new, name) - total(old, name)) / seconds
    ttft = quantile(buckets(TTFT, new), buckets(TTFT, old), 0.95)
    if ttft is not None:
        out["ttft_p95_seconds"] = ttft
    return {**out, **misses(new, old)}


def round_trip_seconds(text):
    # Return the mean of the kernel's smoothed round trips of the connections in the output of `ss -tin`.
    found = [float(value) for value in re.findall(r"\brtt:([\d.]+)/", text)]
    return sum(found) / len(found) / 1000 if found else None


def get(url, headers=None, method="GET", timeout=5):
    request = urllib.request.Request(url, headers=headers or {}, method=method)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return answer.read().decode()


def scrape():
    try:
        return parse(get(ENGINE + "/metrics"))
    except (OSError, ValueError):
        return None


def network():
    # Return the mean round trip of the load balancer's connections, which end in the container's network. Connections
    # from its gateway are our own scrapes and health checks.
    try:
        pid, gateway = shown(
            *("docker", "inspect", "--format"),
            "{{.State.Pid}} {{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}",
            "engine",
        ).split()
        ours = ["not", "dst", "127.0.0.0/8", "and", "not", "dst", gateway]
        port = ENGINE.rsplit(":", 1)[1]
        connections = ["state", "established", "( sport = :%s )" % port, "and", *ours]
        return round_trip_seconds(shown("nsenter", "--target", pid, "--net", "ss", "-tin", *connections))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def shown(*words):
    return subprocess.run(words, capture_output=True, text=True, timeout=5, check=True).stdout


def leaving():
    # Whether the instance must stop publishing. A draining instance gets no new requests, and the scaler takes what is
    # published for the load of those that stay: with four that hold 20 each and one that has 5 left, it would count
    # 85 at five. A training worker publishes to the end: its jobs are its own.
    if os.environ.get("WORKLOAD") == "training":
        return False
    try:
        return imds("autoscaling/target-lifecycle-state") == "Terminated"
    except OSError:
        return False


def publish(values, sender):
    for name, value in values.items():
        sender.sendto(("%s:%.6g|g" % (name, value)).encode(), STATSD)


def metrics():
    sender, old, before = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), None, 0.0
    while True:
        started = time.monotonic()
        new = scrape()
        if new is not None and not leaving():
            values = gauges(new, old, started - before)
            latency = network()
            if latency is not None:
                values["network_latency_seconds"] = latency
            publish(values, sender)
        old, before = new, started
        time.sleep(max(0.0, SCRAPE_SECONDS - (time.monotonic() - started)))


def imds(path):
    token = get(IMDS + "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "300"}, "PUT")
    try:
        return get(IMDS + "/latest/meta-data/" + path, {"X-aws-ec2-metadata-token": token})
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return ""
        raise


def say(**what):
    print(json.dumps(what), flush=True)


def aws(*words):
    done = subprocess.run(["aws", "autoscaling", *words], capture_output=True, text=True, timeout=120)
    if done.returncode:
        say(failed=" ".join(words), error=done.stderr.strip()[-500:])
    return done.returncode == 0


def healthy():
    try:
        get(ENGINE + HEALTH_PATH)
    except (OSError, ValueError):
        return False
    return True


def hook(action, name, group, instance):
    where = ["--lifecycle-hook-name", name, "--auto-scaling-group-name", group, "--instance-id", instance]
    extra = ["--lifecycle-action-result", "CONTINUE"] if action == "complete-lifecycle-action" else []
    return aws(action, *where, *extra)


def engine_stands():
    done = subprocess.run(
        ["docker", "inspect", "--format", "{{.State.Running}}", "engine"], capture_output=True, text=True
    )
    return done.stdout.strip() == "true"


def busy(samples):
    # Return the number of requests and jobs in hand. A running engine that does not answer counts as busy.
    if samples is None:
        return 1.0 if engine_stands() else 0.0
    return sum(total(samples, name) for gauge in BUSY for name in [first(GAUGES[gauge], samples)] if name)


def drain(beat, clock=time.monotonic, sleep=time.sleep):
    # Wait until the instance is idle, at most MAX_DRAIN_SECONDS; return whether it is. Inference: the load balancer
    # sends no more requests; nothing must run or wait in two counts, so that no request between counts is lost.
    # Training: SIGTERM tells the worker to finish its job and take no other, and its container ends by itself.
    end = clock() + float(os.environ["MAX_DRAIN_SECONDS"])
    training = os.environ.get("WORKLOAD") == "training"
    if training:
        subprocess.run(["systemctl", "--no-block", "stop", "engine"], check=False)
    idle, last = 0, clock()
    while clock() < end and idle < 2:
        sleep(POLL_SECONDS)
        left = engine_stands() if training else busy(scrape())
        idle = 0 if left else idle + 1
        if clock() - last >= HEARTBEAT_SECONDS:
            beat()
            last = clock()
    say(drained=idle >= 2, seconds_left=round(end - clock()))
    return idle >= 2


def lifecycle():
    group, instance = "", imds("instance-id")
    while not group:
        group = imds("tags/instance/aws:autoscaling:groupName")
        if not group:
            time.sleep(POLL_SECONDS)
    launching, terminating = os.environ["LAUNCHING_HOOK"], os.environ["TERMINATING_HOOK"]
    tries = 0
    while True:
        try:
            state = imds("autoscaling/target-lifecycle-state")
        except OSError as error:
            say(failed="instance metadata", error=str(error))
            state = ""
        if state == "Terminated":
            drain(lambda: hook("record-lifecycle-action-heartbeat", terminating, group, instance))
            hook("complete-lifecycle-action", terminating, group, instance)
            return
        # The call fails if the hook was completed or has timed out: after ten failures, give up.
        if tries < 10 and healthy():
            tries = 10 if hook("complete-lifecycle-action", launching, group, instance) else tries + 1
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    {"metrics": metrics, "lifecycle": lifecycle}[sys.argv[1]]()
