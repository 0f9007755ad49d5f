"""`pulumi up`: reads the stack's YAML and policies/, packs the scaler, makes the stack."""

from __future__ import annotations

import sys
from pathlib import Path

import pulumi

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the engine runs this file with infra/ as its folder

from infra import package, stack, stack_file, stack_problems, yaml_files  # noqa: E402
from scaling.document import DocumentError  # noqa: E402


class SettingsError(DocumentError, pulumi.RunError):
    """What a user wrote is wrong: the engine prints it without a traceback, and makes nothing."""


project, name = pulumi.get_project(), pulumi.get_stack()
try:
    read = stack_file.read_config(pulumi.Config().get_object, pulumi.Config("aws").get("region"), name, project)
    models = stack_problems.composed(read, yaml_files.read_library(ROOT))
except DocumentError as error:
    raise SettingsError(stack_problems.placed(error, ROOT, name).problems) from None
archive = package.build(ROOT)
exports = stack.build(stack.StackArgs(project, name, read.settings, models, archive))
for key, value in exports.items():
    pulumi.export(key, value)
