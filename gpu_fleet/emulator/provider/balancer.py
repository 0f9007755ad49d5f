"""Load balancers, target groups, listeners, rules, and web ACLs."""

from __future__ import annotations

import contextlib
from typing import Any

from gpu_fleet.emulator.provider.registry import (
    MadeResource,
    MotoAccount,
    Resource,
    makes,
    pascal_case,
    tag_list,
    tags_argument,
    to_int,
    without_none,
)


def _attribute_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(to_int(value)) if isinstance(value, float) else str(value)


def _attributes(values: dict[str, Any]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": _attribute_text(value)} for key, value in values.items() if value is not None]


@makes("aws:lb/loadBalancer:LoadBalancer", "aws:alb/loadBalancer:LoadBalancer", longest_name=32)
def load_balancer(aws: MotoAccount, r: Resource) -> MadeResource:
    """A load balancer with its attributes."""
    elb, i = aws.client("elbv2"), r.inputs
    made = elb.create_load_balancer(
        Name=r.physical_name,
        Scheme="internal" if i.get("internal") else "internet-facing",
        Type=i.get("loadBalancerType") or "application",
        **tags_argument(i),
        **without_none(
            Subnets=i.get("subnets"), SecurityGroups=i.get("securityGroups"), IpAddressType=i.get("ipAddressType")
        ),
    )["LoadBalancers"][0]
    attributes = {
        "deletion_protection.enabled": i.get("enableDeletionProtection"),
        "idle_timeout.timeout_seconds": i.get("idleTimeout"),
        "routing.http.drop_invalid_header_fields.enabled": i.get("dropInvalidHeaderFields"),
        "routing.http2.enabled": i.get("enableHttp2"),
        "routing.http.desync_mitigation_mode": i.get("desyncMitigationMode"),
        "routing.http.preserve_host_header.enabled": i.get("preserveHostHeader"),
        "routing.http.xff_client_port.enabled": i.get("enableXffClientPort"),
        "routing.http.xff_header_processing.mode": i.get("xffHeaderProcessingMode"),
        "client_keep_alive.seconds": i.get("clientKeepAlive"),
        "waf.fail_open.enabled": i.get("enableWafFailOpen"),
    }
    logs = i.get("accessLogs") or {}
    if logs.get("enabled"):
        attributes |= {
            "access_logs.s3.enabled": True,
            "access_logs.s3.bucket": logs.get("bucket"),
            "access_logs.s3.prefix": logs.get("prefix"),
        }
    arn = made["LoadBalancerArn"]
    if _attributes(attributes):
        elb.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=_attributes(attributes))
    return arn, {
        "arn": arn,
        "arnSuffix": arn.split("loadbalancer/", 1)[1],
        "dnsName": made["DNSName"],
        "zoneId": made["CanonicalHostedZoneId"],
        "vpcId": made["VpcId"],
    }


@makes(
    "aws:lb/targetGroup:TargetGroup",
    "aws:alb/targetGroup:TargetGroup",
    longest_name=32,
    no_effect=("connectionTermination", "preserveClientIp"),
)
def target_group(aws: MotoAccount, r: Resource) -> MadeResource:
    """A target group with its attributes."""
    elb, i = aws.client("elbv2"), r.inputs
    check = i.get("healthCheck") or {}
    made = elb.create_target_group(
        Name=r.physical_name,
        **tags_argument(i),
        **without_none(
            Protocol=i.get("protocol"),
            ProtocolVersion=i.get("protocolVersion"),
            Port=to_int(i.get("port")),
            VpcId=i.get("vpcId"),
            TargetType=i.get("targetType"),
            IpAddressType=i.get("ipAddressType"),
            HealthCheckProtocol=check.get("protocol"),
            HealthCheckPort=None if check.get("port") is None else _attribute_text(check["port"]),
            HealthCheckPath=check.get("path"),
            HealthCheckEnabled=check.get("enabled"),
            HealthCheckIntervalSeconds=to_int(check.get("interval")),
            HealthCheckTimeoutSeconds=to_int(check.get("timeout")),
            HealthyThresholdCount=to_int(check.get("healthyThreshold")),
            UnhealthyThresholdCount=to_int(check.get("unhealthyThreshold")),
            Matcher=None if check.get("matcher") is None else {"HttpCode": str(check["matcher"])},
        ),
    )["TargetGroups"][0]
    arn = made["TargetGroupArn"]
    sticky = i.get("stickiness") or {}
    cookie = sticky.get("type") or "lb_cookie"
    attributes = {
        "deregistration_delay.timeout_seconds": i.get("deregistrationDelay"),
        "slow_start.duration_seconds": i.get("slowStart"),
        "load_balancing.algorithm.type": i.get("loadBalancingAlgorithmType"),
        "load_balancing.algorithm.anomaly_mitigation": i.get("loadBalancingAnomalyMitigation"),
        "load_balancing.cross_zone.enabled": i.get("loadBalancingCrossZoneEnabled"),
    }
    if sticky:
        attributes |= {
            "stickiness.enabled": sticky.get("enabled", True),
            "stickiness.type": cookie,
            f"stickiness.{cookie}.duration_seconds": sticky.get("cookieDuration"),
            "stickiness.app_cookie.cookie_name": sticky.get("cookieName"),
        }
    if _attributes(attributes):
        elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=_attributes(attributes))
    return arn, {"arn": arn, "arnSuffix": arn.rsplit(":", 1)[1], "loadBalancerArns": []}


def _actions(actions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [_action(a) for a in actions]


def _action(action: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {"Type": action["type"], **without_none(Order=to_int(action.get("order")))}
    if action.get("targetGroupArn"):
        out["TargetGroupArn"] = action["targetGroupArn"]
    if action.get("forward"):
        forward = action["forward"]
        stickiness = forward.get("stickiness")
        config: dict[str, Any] = {
            "TargetGroups": [
                {"TargetGroupArn": t["arn"], **without_none(Weight=to_int(t.get("weight")))}
                for t in forward["targetGroups"]
            ]
        }
        if stickiness:
            config["TargetGroupStickinessConfig"] = {
                "Enabled": bool(stickiness.get("enabled")),
                **without_none(DurationSeconds=to_int(stickiness.get("duration"))),
            }
        out["ForwardConfig"] = config
    if action.get("redirect"):
        out["RedirectConfig"] = pascal_case(action["redirect"])
    if action.get("fixedResponse"):
        out["FixedResponseConfig"] = pascal_case(action["fixedResponse"])
    return out


@makes("aws:lb/listener:Listener", "aws:alb/listener:Listener", no_effect=("mutualAuthentication",))
def listener(aws: MotoAccount, r: Resource) -> MadeResource:
    """A listener. A certificate that moto's ACM lacks is requested first: the real one belongs to the account."""
    i = r.inputs
    certificate = i.get("certificateArn")
    if certificate:
        certificate = _certificate(aws, certificate)
    made = aws.client("elbv2").create_listener(
        LoadBalancerArn=i["loadBalancerArn"],
        DefaultActions=_actions(i["defaultActions"]),
        **tags_argument(i),
        **without_none(
            Port=to_int(i.get("port")),
            Protocol=i.get("protocol") or "HTTP",
            SslPolicy=i.get("sslPolicy"),
            Certificates=[{"CertificateArn": certificate}] if certificate else None,
        ),
    )["Listeners"][0]
    arn = made["ListenerArn"]
    return arn, {"arn": arn, "sslPolicy": i.get("sslPolicy") or ""}


def _certificate(aws: MotoAccount, arn: str) -> str:
    acm = aws.client("acm")
    try:
        acm.describe_certificate(CertificateArn=arn)
    except acm.exceptions.ResourceNotFoundException:
        return str(acm.request_certificate(DomainName="embedded.example")["CertificateArn"])
    return arn


@makes("aws:lb/listenerCertificate:ListenerCertificate")
def listener_certificate(aws: MotoAccount, r: Resource) -> MadeResource:
    """An additional certificate of a listener."""
    arn = _certificate(aws, r.inputs["certificateArn"])
    aws.client("elbv2").add_listener_certificates(
        ListenerArn=r.inputs["listenerArn"], Certificates=[{"CertificateArn": arn}]
    )
    return f"{r.inputs['listenerArn']}_{arn}", {}


_CONDITIONS = {
    "pathPattern": ("path-pattern", "PathPatternConfig"),
    "hostHeader": ("host-header", "HostHeaderConfig"),
    "httpRequestMethod": ("http-request-method", "HttpRequestMethodConfig"),
    "sourceIp": ("source-ip", "SourceIpConfig"),
    "httpHeader": ("http-header", "HttpHeaderConfig"),
}


def _conditions(conditions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    out = []
    for condition in conditions:
        for key, value in condition.items():
            if value is None:
                continue
            if key == "queryStrings":
                out.append({"Field": "query-string", "QueryStringConfig": {"Values": pascal_case(value)}})
                continue
            field, config = _CONDITIONS[key]
            body = {"Values": value["values"]}
            if key == "httpHeader":
                body["HttpHeaderName"] = value["httpHeaderName"]
            out.append({"Field": field, config: body})
    return out


@makes("aws:lb/listenerRule:ListenerRule", "aws:alb/listenerRule:ListenerRule")
def listener_rule(aws: MotoAccount, r: Resource) -> MadeResource:
    """A listener's rule; without a priority it follows all others."""
    elb, i = aws.client("elbv2"), r.inputs
    priority = to_int(i.get("priority"))
    if priority is None:
        rules = elb.describe_rules(ListenerArn=i["listenerArn"])["Rules"]
        priority = max((int(x["Priority"]) for x in rules if x["Priority"] != "default"), default=0) + 1
    made = elb.create_rule(
        ListenerArn=i["listenerArn"],
        Priority=priority,
        Conditions=_conditions(i["conditions"]),
        Actions=_actions(i["actions"]),
        **tags_argument(i),
    )["Rules"][0]
    return made["RuleArn"], {"arn": made["RuleArn"], "priority": priority}


@makes("aws:wafv2/webAcl:WebAcl", no_effect=("visibilityConfig", "rules", "captchaConfig", "tokenDomains"))
def web_acl(aws: MotoAccount, r: Resource) -> MadeResource:
    """A web ACL without its rules: no request ever meets them here."""
    i = r.inputs
    visibility = {"SampledRequestsEnabled": False, "CloudWatchMetricsEnabled": False, "MetricName": r.physical_name}
    made = aws.client("wafv2").create_web_acl(
        Name=r.physical_name,
        Scope=i["scope"],
        DefaultAction={k[:1].upper() + k[1:]: {} for k in i["defaultAction"]},
        VisibilityConfig=visibility,
        Rules=[],
        Tags=tag_list(i) or [{"Key": "Name", "Value": r.name}],
        **without_none(Description=i.get("description")),
    )["Summary"]
    return made["Id"], {"arn": made["ARN"], "capacity": 0, "lockToken": made["LockToken"]}


@makes("aws:wafv2/webAclAssociation:WebAclAssociation")
def web_acl_association(aws: MotoAccount, r: Resource) -> MadeResource:
    """A web ACL in front of a load balancer. One from outside the stack is assumed to exist."""
    i = r.inputs
    waf = aws.client("wafv2")
    with contextlib.suppress(waf.exceptions.WAFNonexistentItemException):
        waf.associate_web_acl(WebACLArn=i["webAclArn"], ResourceArn=i["resourceArn"])
    return f"{i['webAclArn']},{i['resourceArn']}", {}
