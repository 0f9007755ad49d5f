"""The project's Pulumi program, run under the SDK's own mock monitor: no CLI, no engine, no plugin."""

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
class RegisteredResource:
    """A resource that the program registered and that now exists."""

    urn: str
    type: str
    name: str
    parent: str
    """URN of the parent; empty for the stack itself."""
    custom: bool
    """True for a provider's resource, False for a component."""
    id: str
    ignore_changes: tuple[str, ...]


Make = Callable[[str, str, Mapping[str, Any]], tuple[str, dict[str, Any]]]
"""Type, name and inputs of a resource -> its id and outputs."""
Answer = Callable[[str, Mapping[str, Any]], dict[str, Any]]
"""Token and arguments of a provider function that the program calls -> its result."""
OnResource = Callable[[RegisteredResource], None]

ORGANIZATION = "organization"
"""Pulumi's name for the organization of a self-managed backend:
https://www.pulumi.com/docs/iac/concepts/state-and-backends/#project-scoped-stacks"""


@dataclass(frozen=True, slots=True)
class Project:
    """The program and the settings of one stack."""

    name: str
    stack: str
    root: Path
    """The project's folder, absolute, because the program runs in another working folder."""
    program: Path
    """The file to run."""
    config: dict[str, str]
    """The configuration as Pulumi passes it to the program: values other than strings are JSON."""

    @property
    def region(self) -> str:
        """The stack's AWS region."""
        return self.config["aws:region"]


def read_project(root: Path, stack_name: str) -> Project:
    """Read the project at `root` with one of its stacks.

    Raises DocumentError, with file, line and column, if Pulumi.yaml, the stack's file or the program is missing or
    invalid.
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
class _Result:
    outputs: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None


def run_program(project: Project, make: Make, answer: Answer, on_resource: OnResource) -> dict[str, Any]:
    """Run the program and return the stack's outputs.

    `make` makes each custom resource, in the order of registration; `answer` answers the provider functions that the
    program calls; `on_resource` is called after each resource. A stack is made once, so it has no outputs of an earlier
    update.

    The program runs in a thread of its own, so that the SDK's state (context variables and event loops) is new each
    time. Raises what the program or `make` raised.
    """
    result = _Result()

    def run() -> None:
        try:
            result.outputs = _run(project, make, answer, on_resource)
        except BaseException as error:  # noqa: BLE001 raised again in the caller's thread
            result.error = error

    with _program_surroundings(project.program.parent, project.root):
        thread = threading.Thread(target=run, name=f"pulumi program {project.name}-{project.stack}")
        thread.start()
        thread.join()
    if result.error is not None:
        raise result.error
    return result.outputs


@contextlib.contextmanager
def _program_surroundings(program: Path, root: Path) -> Iterator[None]:
    """Set the working folder and import path that `pulumi up` gives a program."""
    before_path, before_folder = list(sys.path), Path.cwd()
    before_modules = set(sys.modules)
    sys.path[:0] = [str(program), str(root)]
    os.chdir(program)
    try:
        yield
    finally:
        os.chdir(before_folder)
        sys.path[:] = before_path
        # Forget modules imported from the program's own folder: another program may use the same names.
        for name in set(sys.modules) - before_modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).parent == program and "." not in name:
                del sys.modules[name]


def _run(project: Project, make: Make, answer: Answer, on_resource: OnResource) -> dict[str, Any]:
    provider = _Provider(project, make, answer)
    monitor = _Monitor(provider, on_resource)
    try:
        with _event_loop() as loop:
            _configure_sdk(project, monitor)
            loop.run_until_complete(stack.run_in_stack(lambda: _run_as_main(project.program)))
    except Exception as error:
        # The SDK wraps or repeats the first failure; the caller needs the original.
        if provider.failures and provider.failures[0] is not error:
            raise provider.failures[0] from None
        raise
    if provider.failures:
        raise provider.failures[0]
    return monitor.outputs


class _Provider(pulumi.runtime.Mocks):
    """Makes resources and answers provider functions; keeps what they raised."""

    def __init__(self, project: Project, make: Make, answer: Answer) -> None:
        self._project, self._make, self._answer = project, make, answer
        self.failures: list[BaseException] = []

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        if args.typ == "pulumi:pulumi:StackReference":
            with self._recorded():
                return args.inputs["name"], _stack_reference(self._project, args.inputs["name"])
        if not args.typ.startswith("aws:"):
            return f"{args.name}-id", dict(args.inputs)
        with self._recorded(f"while making {args.name} ({args.typ})"):
            return self._make(args.typ, args.name, args.inputs)

    def call(self, args: pulumi.runtime.MockCallArgs) -> Any:
        with self._recorded():
            return self._answer(args.token, args.args)

    @contextlib.contextmanager
    def _recorded(self, note: str = "") -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if note:
                error.add_note(note)
            self.failures.append(error)
            raise


class _Monitor(mocks.MockMonitor):
    """The SDK's mock monitor, which also reports each resource and keeps the stack's outputs."""

    def __init__(self, provider: _Provider, on_resource: OnResource) -> None:
        super().__init__(provider)
        self._on_resource = on_resource
        self.outputs: dict[str, Any] = {}

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 the SDK's name
        response = super().RegisterResource(request)
        if request.type != "pulumi:pulumi:Stack":
            self._on_resource(
                RegisteredResource(
                    urn=response.urn,
                    type=request.type,
                    name=request.name,
                    parent=request.parent,
                    custom=bool(request.custom),
                    id=response.id,
                    ignore_changes=tuple(request.ignoreChanges),
                )
            )
        return response

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802 the SDK's name
        if "::pulumi:pulumi:Stack::" in request.urn:
            self.outputs.update(unwrap(rpc.deserialize_properties(request.outputs)))
        return super().RegisterResourceOutputs(request)


@contextlib.contextmanager
def _event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Give this thread a new event loop with a single worker, so that each run makes resources in the same order."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    workers = ThreadPoolExecutor(max_workers=1)
    loop.set_default_executor(workers)
    try:
        yield loop
    finally:
        workers.shutdown(wait=True)
        asyncio.set_event_loop(None)
        loop.close()


def _configure_sdk(project: Project, monitor: _Monitor) -> None:
    """Point the SDK's state of this thread at the monitor."""
    sdk: Any = settings.SETTINGS  # context variables, which the SDK declares as properties only
    sdk.outputs, sdk.lock = set(), threading.Lock()
    pulumi.runtime.set_all_config(project.config, [])
    settings.configure(
        mocks.MockSettings(
            monitor=monitor,
            monitor_features=set(monitor.GetDeploymentInfo(None).supportedFeatures),
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


def _stack_reference(project: Project, name: str) -> dict[str, Any]:
    """Return a StackReference's state: this stack before it is made. Raises LookupError for another stack."""
    own = f"{ORGANIZATION}/{project.name}/{project.stack}"
    if name != own:
        raise LookupError(f"{name}: no such stack; the embedded cloud has only {own}")
    return {"name": name, "outputs": {}, "secretOutputNames": []}


def _run_as_main(program: Path) -> None:
    with warnings.catch_warnings():
        # pulumi_aws warns of its own old classes when it is imported.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="pulumi_aws")
        runpy.run_path(str(program), run_name="__main__")
