"""Which files a project has: the shipped ones, and the user's own in the folder `own/`.

Git does not track `own/`, so an update of the project is a `git pull` without conflicts. `own/policies/*.yaml` joins
`policies/*.yaml`; a file of the same name replaces the shipped one as a whole. `own/Pulumi.<stack>.yaml` is a stack's
file, as `Pulumi.<stack>.yaml` in the root is; a stack has one of the two.

Pulumi reads a stack's file from `own/` when `preview`, `up`, `refresh`, `destroy` and `config` get
`--config-file own/Pulumi.<stack>.yaml` (https://www.pulumi.com/docs/iac/cli/commands/pulumi_up/), which is relative to
the working directory. The alternative, `stackConfigDir: own` in Pulumi.yaml
(https://www.pulumi.com/docs/iac/concepts/projects/project-file/), names one folder for all stacks: the shipped stacks
in the root would be lost, and the automation API ignores it (https://github.com/pulumi/pulumi/issues/10305).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from gpu_fleet.config.document import DocumentError, Problem

OWN = "own"
POLICIES = "policies"

_SECRETS_KEY = re.compile(r"(encryptionsalt|encryptedkey|secretsprovider): ")
_STACK_FILE = re.compile(r"Pulumi\.(.+)\.yaml")


def library_files(root: Path) -> list[str]:
    """Return the library's files relative to `root`: `policies/chat.yaml`, `own/policies/catalog.yaml`.

    Raises DocumentError without the folder `policies`, and for files that nobody would read because of their name.
    """
    _check_folders(root)
    if not (root / POLICIES).is_dir():
        raise DocumentError([Problem(POLICIES, 0, 0, "", "no such folder")])
    folders = (POLICIES, f"{OWN}/{POLICIES}")
    misnamed = [f"{folder}/{path.name}" for folder in folders for path in sorted((root / folder).glob("*.yml"))]
    if misnamed:
        raise DocumentError(Problem(name, 0, 0, "", "must end in .yaml") for name in misnamed)
    by_name = {path.name: f"{folder}/{path.name}" for folder in folders for path in (root / folder).glob("*.yaml")}
    return [by_name[name] for name in sorted(by_name)]


def stack_file_name(stack: str) -> str:
    """Return the name of a stack's file."""
    return f"Pulumi.{stack}.yaml"


def stack_name(file: str) -> str | None:
    """Return the stack of a file, `dev` for `own/Pulumi.dev.yaml`; None for other files."""
    match = _STACK_FILE.fullmatch(Path(file).name)
    return match[1] if match else None


def stack_names(root: Path) -> list[str]:
    """Return the names of all stacks with a file in the root or in `own/`."""
    files = [path.name for folder in (root, root / OWN) for path in folder.glob("Pulumi.*.yaml")]
    return sorted({name for file in files if (name := stack_name(file))})


def find_stack_file(root: Path, stack: str) -> str:
    """Return a stack's file relative to `root`. A file of this name exists, or else the name is that in the root.

    Raises DocumentError for a stack with a file in both places.
    """
    _check_folders(root)
    shipped = stack_file_name(stack)
    own = f"{OWN}/{shipped}"
    if not (root / own).is_file():
        return shipped
    if (root / shipped).is_file():
        text = f"must be the stack's only file; {shipped} is there too"
        if _only_secrets(root / shipped):
            text += f" (written by pulumi: move its lines to {own}, delete it, and give pulumi --config-file {own})"
        raise DocumentError([Problem(own, 0, 0, "", text)])
    return own


def _only_secrets(path: Path) -> bool:
    """Return whether a stack's file holds nothing but the keys that pulumi writes for the stack's secrets."""
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return bool(lines) and all(_SECRETS_KEY.match(line) for line in lines)


def _check_folders(root: Path) -> None:
    for folder in (OWN, f"{OWN}/{POLICIES}"):
        if os.path.lexists(root / folder) and not (root / folder).is_dir():
            raise DocumentError([Problem(folder, 0, 0, "", "must be a folder")])
