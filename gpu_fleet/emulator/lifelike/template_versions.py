"""Launch template versions after the first carry user data."""

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
    aws="every version may carry user data; a new version takes over what its SourceVersion has and it does not name",
    source="https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateLaunchTemplateVersion.html",
)


def mend(patches: Patches) -> None:
    """Read user data as text, and let a version inherit."""

    def user_data(self: Any) -> Base64EncodedString | None:
        text = self.data.get("UserData")
        return text if text is None or isinstance(text, Base64EncodedString) else Base64EncodedString(text)

    source: list[str] = []

    def create_launch_template_version(self: Any) -> Any:
        source[:] = [v for v in [self._get_param("SourceVersion")] if v]
        try:
            return moto_respond(self)
        finally:
            source.clear()

    def create_version(self: Any, data: dict[str, Any], description: str) -> Any:
        if source:
            data = {**copy.deepcopy(self.get_version(source[0]).data), **data}
        return moto_create(self, data, description)

    patches.put(LaunchTemplateVersion, "user_data", property(user_data))
    moto_respond = patches.put(LaunchTemplates, "create_launch_template_version", create_launch_template_version)
    moto_create = patches.put(LaunchTemplate, "create_version", create_version)
