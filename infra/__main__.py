"""`pulumi up`: reads the stack's YAML and policies/, packs the scaler, makes the stack."""

from __future__ import annotations

import sys
from pathlib import Path

import pulumi

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the engine runs this file with infra/ as its folder

from infra import package, stack, stack_problems  # noqa: E402
from scaling.document import DocumentError  # noqa: E402


class SettingsError(DocumentError, pulumi.RunError):
    """What a user wrote is wrong: the engine prints it without a traceback, and makes nothing."""


def configured(key: str) -> object:
    """A value of the stack's configuration; as text where a list or a mapping was asked for and it is neither."""
    try:
        return pulumi.Config().get_object(key)
    except pulumi.ConfigTypeError:
        return pulumi.Config().get(key)


project, name = pulumi.get_project(), pulumi.get_stack()
try:
    settings, models = stack_problems.read_engine(ROOT, configured, pulumi.Config("aws").get("region"), name, project)
except DocumentError as error:
    raise SettingsError(error.problems) from None
archive = package.build(ROOT)
exports = stack.build(stack.StackArgs(project, name, settings, models, archive))
for key, value in exports.items():
    pulumi.export(key, value)
