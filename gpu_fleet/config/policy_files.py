"""A policy by its name or its file, as every command of the desk takes it."""

from __future__ import annotations

from pathlib import Path

from gpu_fleet.config.document import DocumentError, Problem
from gpu_fleet.config.library import Library, library, policy_name
from gpu_fleet.config.yaml_files import library_texts, read_text


def policy_library(root: Path, policy: str) -> tuple[Library, str]:
    """The project's library with the policy of this name or file in it, and the policy's name there.

    Raises DocumentError where there is none, and with every error in the files.
    """
    texts = library_texts(root)
    path = Path(policy)
    if path.suffix in (".yaml", ".yml"):
        for known in [known for known in texts if Path(known).name == path.name]:
            del texts[known]
        texts[policy] = read_text(path, policy)
    elif f"policies/{policy}.yaml" not in texts:
        others = [policy_name(text) for text in texts if not text.endswith(("catalog.yaml", "profiles.yaml"))]
        names = ", ".join(sorted(others))
        raise DocumentError([Problem(f"policies/{policy}.yaml", 0, 0, "", f"no such policy; there is {names}")])
    return library(texts), policy_name(policy)
