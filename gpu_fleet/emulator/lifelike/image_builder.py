"""EC2 Image Builder: what a pipeline is made of, and a run of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from moto.core.botocore_stubber import BotocoreStubber
from moto.core.exceptions import JsonRESTError
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

if TYPE_CHECKING:
    from botocore.model import ServiceModel, Shape

DIFFERENCE = Difference(
    name="Image Builder",
    moto="has no Image Builder",
    aws=(
        "names, versions and ARNs follow their patterns; of one name and version there is one recipe, of one name one "
        "of everything else but components; a part that another names must exist, as must an instance profile"
    ),
    source=(
        "https://docs.aws.amazon.com/imagebuilder/latest/APIReference/API_CreateImageRecipe.html "
        "https://docs.aws.amazon.com/imagebuilder/latest/APIReference/API_CreateInfrastructureConfiguration.html "
        "https://docs.aws.amazon.com/imagebuilder/latest/APIReference/API_CreateImagePipeline.html"
    ),
)

Request = dict[str, Any]
Parts = dict[str, Request]
"""Every part that was created, by its ARN, as its request had it."""

_ENDPOINT = re.compile(r"https://imagebuilder\.([a-z0-9-]+)\.amazonaws\.com/(\w+)")


def patch_moto(patches: Patches) -> None:
    """Answer the service's requests, which moto does not know, until exit."""
    parts: Parts = {}

    def process(moto: Callable[..., Any], stubber: Any, request: Any) -> Any:
        match = _ENDPOINT.match(request.url)
        if match is None:
            return moto(stubber, request)
        region, operation = match.groups()
        try:
            answer = _OPERATIONS[operation](parts, region, _read(operation, request))
        except JsonRESTError as refused:
            return 400, {"x-amzn-ErrorType": refused.error_type}, json.dumps({"message": refused.message})
        return 200, {}, json.dumps(answer)

    patches.wrap(BotocoreStubber, "process_request", process)


@cache
def _model() -> ServiceModel:
    return botocore.session.get_session().get_service_model("imagebuilder")


def _read(operation: str, request: Any) -> Request:
    """Return the request. Raises JsonRESTError where a value does not follow its shape; botocore checks the rest."""
    body = request.body.decode() if isinstance(request.body, bytes) else request.body or "{}"
    values = json.loads(body)
    shape = _model().operation_model(operation).input_shape
    for name, value in _misfits(shape, values, operation) if shape else ():
        raise JsonRESTError("InvalidParameterException", f"Value '{value}' at '{name}' failed to satisfy constraint")
    return values


def _misfits(shape: Shape, value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the values that are too long, are not of an enumeration or do not follow their pattern."""
    rules = shape.metadata
    if shape.type_name == "structure":
        for key, one in value.items():
            yield from _misfits(shape.members[key], one, key)  # type: ignore[attr-defined]
    elif shape.type_name == "list":
        for one in value:
            yield from _misfits(shape.member, one, name)  # type: ignore[attr-defined]
    elif shape.type_name == "string" and (
        len(value) > rules.get("max", len(value))
        or (rules.get("enum") and value not in rules["enum"])
        or re.search(rules.get("pattern", ""), value) is None
    ):
        yield name, value


def _create_component(parts: Parts, region: str, request: Request) -> Request:
    """A component of a name and version that exist already gets the next build number."""
    prefix = _arn(region, "component", f"{_slug(request)}/{request['semanticVersion']}")
    builds = sum(arn.startswith(f"{prefix}/") for arn in parts)
    return {"componentBuildVersionArn": _store(parts, f"{prefix}/{builds + 1}", request)}


def _create_recipe(parts: Parts, region: str, request: Request) -> Request:
    for component in request["components"]:
        _needs(parts, "componentArn", component["componentArn"])
    arn = _arn(region, "image-recipe", f"{_slug(request)}/{request['semanticVersion']}")
    return {"imageRecipeArn": _store_once(parts, arn, request)}


def _create_infrastructure(parts: Parts, region: str, request: Request) -> Request:
    profile = request["instanceProfileName"]
    profiles = iam_backends[DEFAULT_ACCOUNT_ID]["aws"].instance_profiles.values()
    if not any(each.name == profile and each.roles for each in profiles):
        raise JsonRESTError(
            "InvalidParameterValueException",
            "The value supplied for parameter 'instanceProfileName' is not valid. The provided instance profile does "
            "not exist. Please specify a different instance profile and try again.",
        )
    arn = _arn(region, "infrastructure-configuration", _slug(request))
    return {"infrastructureConfigurationArn": _store_once(parts, arn, request)}


def _create_distribution(parts: Parts, region: str, request: Request) -> Request:
    arn = _arn(region, "distribution-configuration", _slug(request))
    return {"distributionConfigurationArn": _store_once(parts, arn, request)}


def _create_pipeline(parts: Parts, region: str, request: Request) -> Request:
    for key in ("imageRecipeArn", "infrastructureConfigurationArn", "distributionConfigurationArn"):
        if key in request:
            _needs(parts, key, request[key])
    arn = _arn(region, "image-pipeline", _slug(request))
    return {"imagePipelineArn": _store_once(parts, arn, request)}


def _start_pipeline(parts: Parts, region: str, request: Request) -> Request:
    """Run a pipeline, which here takes no time: a new AMI, and its id in the parameters of the distribution.

    Image Builder's own role may write below /imagebuilder/ only.
    """
    _needs(parts, "imagePipelineArn", request["imagePipelineArn"])
    pipeline = parts[request["imagePipelineArn"]]
    runs = pipeline["runs"] = pipeline.get("runs", 0) + 1
    distribution = parts[pipeline["distributionConfigurationArn"]]
    for target in distribution["distributions"]:
        ami = ec2_backends[DEFAULT_ACCOUNT_ID][target["region"]].register_image(f"{_slug(pipeline)}-{runs}")
        for parameter in target.get("ssmParameterConfigurations", ()):
            if parameter["parameterName"].startswith("/imagebuilder/"):
                boto3.client("ssm", region_name=target["region"]).put_parameter(
                    Name=parameter["parameterName"],
                    Value=ami.id,
                    Type="String",
                    DataType=parameter.get("dataType", "text"),
                    Overwrite=True,
                )
    recipe = pipeline["imageRecipeArn"].rpartition(":image-recipe/")[2]
    return {"imageBuildVersionArn": _arn(region, "image", f"{recipe}/{runs}")}


_OPERATIONS: Mapping[str, Callable[[Parts, str, Request], Request]] = {
    "CreateComponent": _create_component,
    "CreateImageRecipe": _create_recipe,
    "CreateInfrastructureConfiguration": _create_infrastructure,
    "CreateDistributionConfiguration": _create_distribution,
    "CreateImagePipeline": _create_pipeline,
    "StartImagePipelineExecution": _start_pipeline,
}


def _slug(request: Request) -> str:
    """Return the name as ARNs have it."""
    return request["name"].lower().replace(" ", "-")


def _arn(region: str, kind: str, rest: str) -> str:
    return f"arn:aws:imagebuilder:{region}:{DEFAULT_ACCOUNT_ID}:{kind}/{rest}"


def _store(parts: Parts, arn: str, request: Request) -> str:
    parts[arn] = request
    return arn


def _store_once(parts: Parts, arn: str, request: Request) -> str:
    if arn in parts:
        raise JsonRESTError("ResourceAlreadyExistsException", f"The resource {arn} already exists")
    return _store(parts, arn, request)


def _needs(parts: Parts, key: str, arn: str) -> None:
    if arn not in parts:
        raise JsonRESTError(
            "InvalidParameterValueException", f"The value supplied for parameter '{key}' is not valid: {arn}"
        )
