"""A progress bar on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpu_fleet.backtest.progress import Progress


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show a bar on stderr for the duration of the context."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    from gpu_fleet.backtest.progress import Progress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[newest]}", style="dim"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:

        def begin(stage: str, tasks: int) -> None:
            bar.add_task(stage, total=tasks, newest="")

        def done(task: str) -> None:
            if bar.task_ids:
                bar.update(bar.task_ids[-1], advance=1, newest=task)

        yield Progress(begin, done)
