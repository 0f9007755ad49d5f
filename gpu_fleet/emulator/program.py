"""Run the project's Pulumi program under the SDK's own mock monitor: no CLI, no engine, no plugin."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import runpy
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime import mocks, rpc, settings, stack

from gpu_fleet.config.document import Document, DocumentError, Problem, parse
from gpu_fleet.config.own_files import find_stack_file
from gpu_fleet.emulator.provider.registry import unwrap


@dataclass(frozen=True, slots=True)
class Registered:
    """A resource that the program registered and that now stands."""

    urn: str
    type: str
    name: str
    parent: str
    """URN of the parent; empty for the stack itself."""
    custom: bool
    """Whether it is a provider's (a component is not)."""
    id: str
    ignore_changes: tuple[str, ...]


Make = Callable[[str, str, Mapping[str, Any]], tuple[str, dict[str, Any]]]
"""Type, name and inputs of a resource -> its id and outputs."""
Ask = Callable[[str, Mapping[str, Any]], dict[str, Any]]
"""Token and arguments of a call of the program -> its answer."""


ORGANIZATION = "organization"
"""What Pulumi calls the organization where there is none:
https://www.pulumi.com/docs/iac/concepts/state-and-backends/#project-scoped-stacks"""


@dataclass(frozen=True, slots=True)
class Project:
    """The program and the settings of one stack."""

    name: str
    stack: str
    root: Path
    """The project's folder, absolute: the program runs in a working folder of its own."""
    program: Path
    """The file that is run."""
    config: dict[str, str]
    """As Pulumi hands it to the program: values that are no strings are JSON."""

    @property
    def region(self) -> str:
        """The stack's AWS region."""
        return self.config["aws:region"]


def read_project(root: Path, stack_name: str) -> Project:
    """The project at `root` with one of its stacks.

    Raises DocumentError, with file, line and column, where Pulumi.yaml, the stack's file or the program is not there or
    cannot be used.
    """
    root = root.resolve()
    project = _read(root, "Pulumi.yaml")
    name = project.data.get("name")
    if not isinstance(name, str):
        raise DocumentError([project.problem(("name",), "must be given")])
    config: dict[str, str] = {}
    for key, declared in (project.data.get("config") or {}).items():
        default = declared.get("default", declared.get("value")) if isinstance(declared, dict) else declared
        if default is not None:
            config[key if ":" in key else f"{name}:{key}"] = _as_text(default)
    stack_document = _read(root, find_stack_file(root, stack_name))
    for key, value in (stack_document.data.get("config") or {}).items():
        secret = isinstance(value, dict) and set(value) == {"secure"}
        config[key] = "secret-value" if secret else _as_text(value)
    if "aws:region" not in config:
        raise DocumentError([stack_document.problem(("config", "aws:region"), "must be given")])
    main = root / (project.data.get("main") or ".")
    program = main / "__main__.py" if main.is_dir() else main
    if not program.is_file():
        raise DocumentError([project.problem(("main",), f"there is no program at {program}")])
    return Project(name, stack_name, root, program, config)


def _read(root: Path, name: str) -> Document:
    path = root / name
    if not path.is_file():
        raise DocumentError([Problem(name, 0, 0, "", f"there is no such file in {root}")])
    document = parse(path.read_text(), name)
    if not isinstance(document.data, dict):
        raise DocumentError([document.problem((), "must be a mapping of keys to values")])
    return document


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@dataclass(slots=True)
class _Run:
    outputs: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None


def run_program(
    project: Project,
    make: Make,
    ask: Ask,
    on_resource: Callable[[Registered], None] | None,
) -> dict[str, Any]:
    """Run the program; each custom resource is made by `make` in the order of registration. Returns the stack's
    outputs.

    A stack is made once, so it has no outputs of an earlier update.

    It runs in a thread of its own, so that the SDK's state (which hangs on context variables and event loops) is new
    each time. Raises what the program or `make` raised.
    """
    run = _Run()

    def body() -> None:
        try:
            run.outputs = _run(project, make, ask, on_resource)
        except BaseException as error:  # noqa: BLE001 handed over to the caller's thread
            run.error = error

    with _surroundings(project.program.parent, project.root):
        thread = threading.Thread(target=body, name=f"pulumi program {project.name}-{project.stack}")
        thread.start()
        thread.join()
    if run.error is not None:
        raise run.error
    return run.outputs


@contextlib.contextmanager
def _surroundings(program: Path, root: Path) -> Iterator[None]:
    """The working folder and import path that `pulumi up` gives a program."""
    before_path, before_folder = list(sys.path), Path.cwd()
    before_modules = set(sys.modules)
    sys.path[:0] = [str(program), str(root)]
    os.chdir(program)
    try:
        yield
    finally:
        os.chdir(before_folder)
        sys.path[:] = before_path
        # Modules that the program imported by its own folder: another program may have some of the same names.
        for name in set(sys.modules) - before_modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).parent == program and "." not in name:
                del sys.modules[name]


def _run(
    project: Project,
    make: Make,
    ask: Ask,
    on_resource: Callable[[Registered], None] | None,
) -> dict[str, Any]:
    failures: list[BaseException] = []

    class Made(pulumi.runtime.Mocks):
        def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
            if args.typ == "pulumi:pulumi:StackReference":
                try:
                    return args.inputs["name"], _stack_before(project, args.inputs["name"])
                except LookupError as error:
                    failures.append(error)
                    raise
            if not args.typ.startswith("aws:"):
                return f"{args.name}-id", dict(args.inputs)
            try:
                return make(args.typ, args.name, args.inputs)
            except BaseException as error:
                error.add_note(f"while making {args.name} ({args.typ})")
                failures.append(error)
                raise

        def call(self, args: pulumi.runtime.MockCallArgs) -> Any:
            try:
                return ask(args.token, args.args)
            except BaseException as error:
                failures.append(error)
                raise

    outputs: dict[str, Any] = {}

    class Monitor(mocks.MockMonitor):
        def RegisterResource(self, request: Any) -> Any:  # noqa: N802 the SDK's name
            answer = super().RegisterResource(request)
            if on_resource is not None and request.type != "pulumi:pulumi:Stack":
                on_resource(
                    Registered(
                        urn=answer.urn,
                        type=request.type,
                        name=request.name,
                        parent=request.parent,
                        custom=bool(request.custom),
                        id=answer.id,
                        ignore_changes=tuple(request.ignoreChanges),
                    )
                )
            return answer

        def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802 the SDK's name
            if "::pulumi:pulumi:Stack::" in request.urn:
                outputs.update(unwrap(rpc.deserialize_properties(request.outputs)))
            return super().RegisterResourceOutputs(request)

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    # One worker: resources are made one after the other, in the same order at each run.
    workers = ThreadPoolExecutor(max_workers=1)
    loop.set_default_executor(workers)
    try:
        # Context variables of this thread; the SDK declares them as properties only.
        current: Any = settings.SETTINGS
        current.outputs, current.lock = set(), threading.Lock()
        pulumi.runtime.set_all_config(project.config, [])
        made = Made()
        settings.configure(
            mocks.MockSettings(
                monitor=Monitor(made),
                monitor_features=set(Monitor(made).GetDeploymentInfo(None).supportedFeatures),
                engine=mocks.MockEngine(None),
                project=project.name,
                stack=project.stack,
                dry_run=False,
                organization=ORGANIZATION,
                root_directory=str(project.program.parent),
                callbacks=None,
            )
        )
        settings.ROOT.set(None)
        loop.run_until_complete(
            stack.run_in_stack(lambda: _as_main(project.program)),
        )
    except Exception as error:
        # The SDK wraps or repeats the first failure; the caller wants that one itself.
        if failures and failures[0] is not error:
            raise failures[0] from None
        raise
    finally:
        workers.shutdown(wait=True)
        asyncio.set_event_loop(None)
        loop.close()
    if failures:
        raise failures[0]
    return outputs


def _stack_before(project: Project, name: str) -> dict[str, Any]:
    """A StackReference's state: the stack before it is made. Raises LookupError for another stack."""
    own = f"{ORGANIZATION}/{project.name}/{project.stack}"
    if name != own:
        raise LookupError(f"{name}: no such stack; the embedded cloud has only {own}")
    return {"name": name, "outputs": {}, "secretOutputNames": []}


def _as_main(program: Path) -> None:
    with warnings.catch_warnings():
        # pulumi_aws warns of its own old classes when it is imported.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="pulumi_aws")
        runpy.run_path(str(program), run_name="__main__")
