"""Workers that compute runs: the cores of this machine, or a Dask or Ray cluster (joblib's backends).

https://joblib.readthedocs.io/en/stable/parallel.html; Dask: https://docs.dask.org/en/stable/scheduling.html and
https://ml.dask.org/joblib.html; Ray: https://docs.ray.io/en/latest/ray-more-libs/joblib.html. The machines of a cluster
need this project and its `desk` dependencies. Tasks and results travel by pickle; files do not travel.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from gpu_fleet.config.document import DocumentError, Problem

Task = TypeVar("Task")
Result = TypeVar("Result")


class Backend(StrEnum):
    """Where tasks are computed."""

    LOKY = "loky"
    """Processes of this machine."""
    DASK = "dask"
    RAY = "ray"


class Map(Protocol):
    """A function that applies another to every task, on all workers in parallel."""

    def __call__(
        self, function: Callable[[Any], Result], tasks: Sequence[Any], done: Callable[[Any], None] | None = None
    ) -> list[Result]:
        """Return the results in the order of the tasks. `done` is called with each finished task."""
        ...


@contextmanager
def workers(backend: Backend = Backend.LOKY, jobs: int | None = None, scheduler: str | None = None) -> Iterator[Map]:
    """Provide workers for the duration of the context.

    `jobs` is the number of processes (loky; default: all cores), or the most tasks in flight on a cluster (default: its
    number of workers). `scheduler` is the address of a Dask scheduler (`tcp://host:8786`) or a Ray cluster
    (`ray://host:10001`); without it, a cluster of this machine is started. Raises DocumentError if the backend is not
    installed or does not answer.
    """
    if backend is Backend.LOKY and scheduler is not None:
        raise _problem("--scheduler", "goes with --backend dask or ray")
    if jobs is not None and jobs < 1:
        raise _problem("--jobs", f"must be at least 1 (got {jobs})")
    match backend:
        case Backend.LOKY:
            yield _mapper("loky", jobs or os.cpu_count() or 1)
        case Backend.DASK:
            with _dask(scheduler, jobs):
                yield _mapper("dask", jobs or -1)
        case Backend.RAY:
            with _ray(scheduler):
                yield _mapper("ray", jobs or -1)


def _mapper(backend: str, jobs: int) -> Map:
    def apply(
        function: Callable[[Any], Result], tasks: Sequence[Any], done: Callable[[Any], None] | None = None
    ) -> list[Result]:
        results: dict[int, Result] = {}
        for number, result in _results(backend, jobs, function, tasks):
            results[number] = result
            if done is not None:
                done(tasks[number])
        return [results[number] for number in range(len(tasks))]

    return apply


def _results(
    backend: str, jobs: int, function: Callable[[Any], Result], tasks: Sequence[Any]
) -> Iterator[tuple[int, Result]]:
    """Yield the number and the result of each task, as tasks finish."""
    if backend == "loky" and (jobs == 1 or len(tasks) <= 1):
        yield from ((number, function(task)) for number, task in enumerate(tasks))
        return
    import joblib

    calls = (joblib.delayed(_numbered)(number, function, task) for number, task in enumerate(tasks))
    with joblib.parallel_config(backend=backend, n_jobs=jobs):
        # One task at a time for each worker, since tasks take from a tenth of a second to minutes.
        parallel: Any = joblib.Parallel(return_as="generator_unordered", batch_size=1)  # pyright: ignore[reportArgumentType]
        yield from parallel(calls)


def _numbered(number: int, function: Callable[[Task], Result], task: Task) -> tuple[int, Result]:
    return number, function(task)


@contextmanager
def _dask(scheduler: str | None, jobs: int | None) -> Iterator[None]:
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise _problem("--backend", "dask needs the package distributed: pip install distributed") from None
    if scheduler is None:
        count = jobs or os.cpu_count() or 1
        options: dict[str, Any] = {"n_workers": count, "threads_per_worker": 1, "dashboard_address": None}
        with LocalCluster(**options) as cluster, Client(cluster):
            yield
        return
    try:
        client = Client(scheduler, timeout=10)
    except (OSError, ValueError, TimeoutError) as error:
        raise _problem("--scheduler", f"no Dask scheduler answers at {scheduler}: {error}") from None
    with client:
        yield


@contextmanager
def _ray(scheduler: str | None) -> Iterator[None]:
    try:
        import ray  # pyright: ignore[reportMissingImports]
        from ray.util.joblib import register_ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise _problem("--backend", "ray needs the package ray: pip install ray") from None
    try:
        ray.init(address=scheduler, ignore_reinit_error=True, log_to_driver=False)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise _problem("--scheduler", f"no Ray cluster answers at {scheduler}: {error}") from None
    try:
        register_ray()
        yield
    finally:
        ray.shutdown()


def _problem(key: str, text: str) -> DocumentError:
    return DocumentError([Problem("", 0, 0, key, text)])
