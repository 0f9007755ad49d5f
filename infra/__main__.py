"""`pulumi up`: reads the stack's YAML and policies/, packs the scaler, makes the stack."""

from __future__ import annotations

import sys
from pathlib import Path

import pulumi

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the engine runs this file with infra/ as its folder

from gpu_fleet.config import stack_file  # noqa: E402
from gpu_fleet.config.document import DocumentError  # noqa: E402
from infra import edits, package, stack, stack_problems, standing  # noqa: E402


class SettingsError(DocumentError, pulumi.RunError):
    """What a user wrote is wrong: the engine prints it without a traceback, and makes nothing."""


def configured(key: str) -> object:
    """A value of the stack's configuration; as text where a list or a mapping was asked for and it is neither."""
    try:
        return pulumi.Config().get_object(key)
    except pulumi.ConfigTypeError:
        return pulumi.Config().get(key)


def prepare(project: str, name: str) -> stack.StackArgs:
    """Everything that is read before anything is made. Raises DocumentError and UnreadableError."""
    settings, models = stack_problems.read_engine(ROOT, configured, pulumi.Config("aws").get("region"), name, project)
    before = standing.read(settings.network.zones)
    if refused := edits.refused(before, settings, models):
        _, document = stack_file.read_stack(ROOT, name)
        raise DocumentError(document.problem(problem.path, problem.text) for problem in refused)
    return stack.StackArgs(project, name, settings, models, package.build(ROOT), before)


try:
    args = prepare(pulumi.get_project(), pulumi.get_stack())
except standing.UnreadableError as error:
    raise pulumi.RunError(str(error)) from None
except DocumentError as error:
    raise SettingsError(error.problems) from None
for key, value in stack.build(args).items():
    pulumi.export(key, value)
