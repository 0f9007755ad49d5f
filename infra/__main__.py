"""`pulumi up`: reads the stack's YAML and policies/, packs the scaler, makes the stack."""

from __future__ import annotations

import sys
from pathlib import Path

import pulumi

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the engine runs this file with infra/ as its folder

from infra import composition, edits, package, stack, stack_file, stack_problems, standing, yaml_files  # noqa: E402
from scaling.document import DocumentError  # noqa: E402


class SettingsError(DocumentError, pulumi.RunError):
    """What a user wrote is wrong: the engine prints it without a traceback, and makes nothing."""


def prepare() -> stack.StackArgs:
    """Everything that is read before anything is made. Raises DocumentError and UnreadableError."""
    settings = stack_file.from_config(
        pulumi.Config().get_object, pulumi.Config("aws").require("region"), pulumi.get_stack()
    )
    models = composition.services(settings, yaml_files.read_library(ROOT))
    before = standing.read(settings.network.zones)
    if refused := edits.refused(before, settings, models):
        _, document = stack_file.read_stack(ROOT, pulumi.get_stack())
        raise DocumentError(stack_file.as_typed(document.problem(p.path, p.text)) for p in refused)
    return stack.StackArgs(
        pulumi.get_project(), pulumi.get_stack(), settings, models, package.build(ROOT), standing=before
    )


try:
    args = prepare()
except standing.UnreadableError as error:
    raise pulumi.RunError(str(error)) from None
except DocumentError as error:
    raise SettingsError(stack_problems.placed(error, ROOT, pulumi.get_stack()).problems) from None
for name, value in stack.build(args).items():
    pulumi.export(name, value)
