"""What `pulumi up` runs: read the stack's YAML and policies/, package the scaler, create the stack."""

from __future__ import annotations

import sys
from pathlib import Path

import pulumi

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the engine runs this file with infra/ as its folder

from gpu_fleet.config import stack_file  # noqa: E402
from gpu_fleet.config.document import DocumentError  # noqa: E402
from infra import deployed, edits, package, stack, stack_problems  # noqa: E402


class SettingsError(DocumentError, pulumi.RunError):
    """The user's YAML is wrong. The engine prints the message without a traceback and creates nothing."""


def config_value(key: str) -> object:
    """Return a value of the stack's configuration: parsed as JSON if possible, else the text itself."""
    try:
        return pulumi.Config().get_object(key)
    except pulumi.ConfigTypeError:
        return pulumi.Config().get(key)


def read_stack_args(project: str, name: str) -> stack.StackArgs:
    """Read everything that the program needs before it creates a resource.

    Raises DocumentError for wrong YAML, and UnreadableError if the deployed stack cannot be read.
    """
    region = pulumi.Config("aws").get("region")
    settings, models = stack_problems.read_engine(ROOT, config_value, region, name, project)
    previous = deployed.read(settings.network.zones)
    if problems := edits.refused_edits(previous, settings, models):
        _, document = stack_file.read_stack(ROOT, name)
        raise DocumentError(document.problem(problem.path, problem.text) for problem in problems)
    return stack.StackArgs(project, name, settings, models, package.build(ROOT), previous)


try:
    args = read_stack_args(pulumi.get_project(), pulumi.get_stack())
except deployed.UnreadableError as error:
    raise pulumi.RunError(str(error)) from None
except DocumentError as error:
    raise SettingsError(error.problems) from None
for key, value in stack.make_stack(args).items():
    pulumi.export(key, value)
