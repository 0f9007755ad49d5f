"""A policy that a command names: by the name of a file in `policies/` or `own/policies/`, or by a path."""

from __future__ import annotations

from pathlib import Path

from gpu_fleet.config.catalog import CATALOG, PROFILES
from gpu_fleet.config.document import DocumentError, Problem
from gpu_fleet.config.library import Library, library, policy_name
from gpu_fleet.config.own_files import library_files
from gpu_fleet.config.yaml_files import library_texts, read_text


def policy_library(root: Path, policy: str) -> tuple[Library, str]:
    """Return the project's library, with the policy that a command names in it, and that policy's name.

    A policy given by its path stands in for the project's file of that name. Raises DocumentError for an unknown name,
    and with every error in the files.
    """
    texts = library_texts(root)
    if _is_path(policy):
        texts = with_text(texts, policy, read_text(Path(policy), policy))
    else:
        policy_file(root, policy)
    return library(texts), policy_name(policy)


def policy_file(root: Path, policy: str) -> str:
    """Return the file of a policy that a command names: a path as it is, a name as `own/policies/chat.yaml`.

    Raises DocumentError for an unknown name.
    """
    if _is_path(policy):
        return policy
    files = {policy_name(file): file for file in library_files(root) if Path(file).name not in (CATALOG, PROFILES)}
    if policy not in files:
        names = ", ".join(sorted(files))
        raise DocumentError([Problem(f"policies/{policy}.yaml", 0, 0, "", f"no such policy; there is {names}")])
    return files[policy]


def with_text(texts: dict[str, str], file: str, text: str) -> dict[str, str]:
    """Return the library's texts with one file added, in place of any file of the same name."""
    others = {path: other for path, other in texts.items() if Path(path).name != Path(file).name}
    return {**others, file: text}


def _is_path(policy: str) -> bool:
    return Path(policy).suffix in (".yaml", ".yml")
