"""`gpu-fleet weights`: fill a service's folder in S3 with a model's files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpu_fleet.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu_fleet.config.model_weights import WeightsPlace
    from gpu_fleet.operate.weights.fill import Filled
    from gpu_fleet.operate.weights.model_file import ModelFile


def weights(
    source: Annotated[str, typer.Argument(help="A folder with the model's files, or a model of Hugging Face.")],
    stack: Annotated[str, typer.Option(help="The stack, by name.")],
    service: Annotated[str, typer.Option(help="Its service, which has boot.weights.")],
    revision: Annotated[str, typer.Option(help="Branch, tag or commit on Hugging Face.")] = "main",
    *,
    delete: Annotated[bool, typer.Option("--delete", help="Delete what else the folder in S3 holds.")] = False,
    root: options.Root = Path(),
) -> None:
    """Send a model's files to the folder in S3 from which a service's instances load them.

    From Hugging Face they go straight to S3, without a copy on this machine; a gated model needs HF_TOKEN. Files that
    are there already are not sent again, so a run that broke off goes on. Of weights in several formats only
    safetensors are sent. Needs s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject.
    """
    import boto3
    from boto3.exceptions import S3UploadFailedError
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    from gpu_fleet.config import model_weights
    from gpu_fleet.config.project_file import read_project_name
    from gpu_fleet.config.stack_file import read_stack
    from gpu_fleet.config.wording import suggestion
    from gpu_fleet.operate.weights.folder import folder_files
    from gpu_fleet.operate.weights.hugging_face import hub_files
    from gpu_fleet.operate.weights.model_file import WeightsError, served_files

    settings, _ = read_stack(root, stack)
    if service not in settings.services:
        raise WeightsError("--service", f"{suggestion(service, settings.services)} (got {service})")
    retries = Config(retries={"mode": "standard", "max_attempts": 5}, max_pool_connections=40)
    try:
        account = boto3.client("sts", region_name=settings.region, config=retries).get_caller_identity()["Account"]
        place = model_weights.place(read_project_name(root), stack, account, service, settings.services[service])
        if place is None:
            raise WeightsError("--service", f"must have boot.weights in its stack's file (got {service})")
        folder = Path(source)
        files = served_files(folder_files(folder) if folder.is_dir() else hub_files(source, revision))
        client = boto3.client("s3", region_name=settings.region, config=retries)
        filled = _fill_with_progress(client, place, files, delete=delete)
    except (BotoCoreError, ClientError, S3UploadFailedError) as error:
        raise WeightsError("", f"AWS did not answer: {error}") from None
    except OSError as error:
        raise WeightsError("", f"{source} cannot be read: {error}") from None
    gib = sum(file.size_bytes for file in files) / 2**30
    typer.echo(
        f"{place.uri}: {len(files)} files, {gib:.1f} GiB; {filled.sent} sent, {filled.unchanged} unchanged, "
        f"{filled.deleted} others deleted"
    )


def _fill_with_progress(client: object, place: WeightsPlace, files: Sequence[ModelFile], *, delete: bool) -> Filled:
    """Send the files; a terminal shows how much of them is in S3."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from gpu_fleet.operate.weights.fill import fill

    columns = (
        TextColumn("to S3"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[newest]}", style="dim"),
    )  # fmt: skip
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=sum(file.size_bytes for file in files), newest="")
        return fill(
            client,  # type: ignore[arg-type]
            place,
            files,
            delete=delete,
            done=lambda newest, count: bar.update(task, advance=count, newest=newest),
        )
