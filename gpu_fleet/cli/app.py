"""The command line, `gpu-fleet`: one thin module of `gpu_fleet.cli` for each command.

The module `gpu_fleet.cli.backtest` holds a function `backtest` (typer reads its arguments, options and help) or, for a
command with subcommands, a `typer.Typer` named `app`. It is imported only when its command runs, so
`gpu-fleet --help` does not wait for numpy, moto and Pulumi.

A user's mistake (`DocumentError`) is printed to stderr, each reason on its own line, and ends with code 1; a wrong call
ends with code 2, as in typer. Anything else is a defect and keeps its traceback.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

COMMANDS = {
    "validate": "Check stacks, policies, catalog and profiles; print every error with its place.",
    "preflight": "Check in AWS, read-only, everything that would make `pulumi up` fail.",
    "weights": "Send a model's files to S3, from where a service's instances load them.",
    "test": "Run the cases that policy files carry.",
    "schema": "Write the JSON Schemas and the table of keys, or check that they are current.",
    "demo": "Provision the local stack in moto, replay traffic through the real scaler, and report.",
    "backtest": "Run one policy against a trace in the simulator.",
    "compare": "Compare a policy with its rivals and the cheapest possible fleet, on traces.",
    "tune": "Search for a better policy on a trace, and test it on traffic that the search has not seen.",
    "thresholds": "Find the utilisation threshold that suits a trace.",
    "trace": "Describe a trace, export one from CloudWatch, or generate one.",
    "explain": "Print the sentences of a decision record.",
    "replay": "Show what another policy would have decided on a record.",
}
"""Every command and its line in `gpu-fleet --help`, in the order in which a newcomer meets them."""


class _Deferred(TyperCommand):
    """A command that has only a name and a help line until it is called."""

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
    """The group of all commands, which prints a user's mistakes."""

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
    help="Serve large models on your own GPU instances on AWS, and tune their scaling offline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback()
def _root() -> None:
    """Serve large models on your own GPU instances on AWS, and tune their scaling offline."""
