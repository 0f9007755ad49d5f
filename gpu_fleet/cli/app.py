"""The command line, `gpu-fleet`: one thin module of `gpu_fleet.cli` for each command.

A module `gpu_fleet.cli.backtest` holds either a function `backtest` (arguments and options as typer reads them, help
from its docstring) or, for a command with commands of its own, a `typer.Typer` named `app`. It is imported when its
command runs and not before, so that `gpu-fleet --help` does not wait for numpy, moto and Pulumi.

What a user got wrong (`DocumentError` and its kin) is printed to stderr, every reason on a line of its own, and ends
with code 1; a wrong call ends with 2, as typer does. Anything else is a defect and keeps its traceback.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

COMMANDS = {
    "validate": "Check stacks, policies, catalog and profiles; print every error with its place.",
    "preflight": "Ask AWS, read-only, for what `pulumi up` would die of.",
    "test": "Run the cases that policy files carry.",
    "schema": "Write the JSON Schemas and the table of keys, or check that they are current.",
    "demo": "Provision the local stack in moto, replay traffic through the real scaler, and report.",
    "backtest": "Run one policy against a trace in the simulator.",
    "compare": "Hold a policy against its rivals and the cheapest fleet possible, on traces.",
    "tune": "Search for a better policy on a trace, and hold it against traffic it has not seen.",
    "thresholds": "Say which utilisation threshold suits a trace.",
    "trace": "Describe a trace, or export one from CloudWatch.",
    "explain": "Print the sentences of a decision record.",
    "replay": "Say what another policy would have decided on a record.",
}
"""Every command and its line in `gpu-fleet --help`, in the order that a newcomer meets them."""


class _Deferred(TyperCommand):
    """A command that is known by name and help alone until it is called."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return _load(self.name or "").make_context(info_name, args, parent, **extra)


def _load(name: str) -> Any:
    module = import_module(f"gpu_fleet.cli.{name}")
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)
        app.command(name)(getattr(module, name))
    command = typer.main.get_command(app)
    command.name = name
    return command


class _Commands(TyperGroup):
    """The group of all commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        return _Deferred(name=cmd_name, help=COMMANDS[cmd_name], callback=None, rich_markup_mode="markdown")

    def invoke(self, ctx: Any) -> Any:
        from gpu_fleet.config.document import DocumentError

        try:
            return super().invoke(ctx)
        except DocumentError as error:
            for problem in error.problems:
                typer.echo(str(problem), err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=_Commands,
    name="gpu-fleet",
    help="Serve large models on your own GPU instances on AWS, and tune how they scale at the desk.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback()
def _root() -> None:
    """Serve large models on your own GPU instances on AWS, and tune how they scale at the desk."""
