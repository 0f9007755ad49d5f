"""Later versions of a launch template carry user data and inherit from their source version."""

from __future__ import annotations

import copy
from typing import Any

from moto.core.types import Base64EncodedString
from moto.ec2.models.launch_templates import LaunchTemplate, LaunchTemplateVersion
from moto.ec2.responses.launch_templates import LaunchTemplates

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="launch template versions",
    moto="a version after the first with user data crashes every launch; SourceVersion is ignored",
    aws="every version may carry user data; a new version inherits from its SourceVersion what it does not specify",
    source="https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateLaunchTemplateVersion.html",
)


def patch_moto(patches: Patches) -> None:
    """Read user data as text, and let a version inherit."""
    inheritance = _Inheritance()
    patches.replace(LaunchTemplateVersion, "user_data", property(_user_data))
    patches.wrap(LaunchTemplates, "create_launch_template_version", inheritance.create_launch_template_version)
    patches.wrap(LaunchTemplate, "create_version", inheritance.create_version)


def _user_data(version: Any) -> Base64EncodedString | None:
    text = version.data.get("UserData")
    return text if text is None or isinstance(text, Base64EncodedString) else Base64EncodedString(text)


class _Inheritance:
    """Carries SourceVersion from the request to the template, past moto's method in between."""

    def __init__(self) -> None:
        self._source_version: str | None = None

    def create_launch_template_version(self, moto: Any, response: Any) -> Any:
        """CreateLaunchTemplateVersion, which moto calls with the request alone."""
        self._source_version = response._get_param("SourceVersion")
        try:
            return moto(response)
        finally:
            self._source_version = None

    def create_version(self, moto: Any, template: Any, data: dict[str, Any], description: str) -> Any:
        """Add a version with the source version's settings where `data` has none."""
        if self._source_version:
            data = {**copy.deepcopy(template.get_version(self._source_version).data), **data}
        return moto(template, data, description)
