"""Every command, option, key, file and link that a page names exists, and the examples run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from pydantic import BaseModel
from ruamel.yaml import YAML

from gpu_fleet.cli import app as cli
from gpu_fleet.config.composition import services
from gpu_fleet.config.document import Document
from gpu_fleet.config.library import library
from gpu_fleet.config.settings import StackSettings
from gpu_fleet.config.stack_file import parse_stack
from gpu_fleet.config.yaml_files import library_texts, read_library
from gpu_fleet.scaling.forecast import PEAKS_SECONDS, TREND_SECONDS
from gpu_fleet.scaling.policy import Policy
from tests.docs import reasons
from tests.docs.pages import ROOT, Block, anchors, blocks, code_in_text, commands, links, pages

SHELL = [block for language in ("sh", "bash", "console") for block in blocks(language)]
RUNNABLE = [block for block in SHELL if "run" in block.info[1:]]


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


# ---- examples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", RUNNABLE, ids=str)
def test_a_block_marked_run_ends_well(block: Block, tmp_path: Path):
    """Each block runs in the project's root, as a reader would run it; it writes below out/."""
    environment = os.environ | {
        "PATH": f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "COLUMNS": "120",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        check=False,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def test_the_readme_has_a_block_that_runs():
    assert any(block.page.name == "README.md" for block in RUNNABLE)


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_a_yaml_block_parses(block: Block):
    yaml = YAML(typ="safe")
    yaml.allow_duplicate_keys = False
    assert yaml.load(block.text) is not None


@pytest.mark.parametrize("block", blocks("yaml", "policy"), ids=str)
def test_a_policy_in_the_docs_is_valid(block: Block):
    texts = library_texts(ROOT)
    library(texts | {"policies/from-the-docs.yaml": block.text})


@pytest.mark.parametrize("block", blocks("yaml", "stack"), ids=str)
def test_a_stack_in_the_docs_is_valid(block: Block):
    read, document = parse_stack(block.text, str(block))
    assert isinstance(document, Document)
    assert services(read, read_library(ROOT), document)


# ---- names --------------------------------------------------------------------------------------------------------


@cache
def _command(name: str) -> Any:
    return cli._load(name)


def _arguments(line: str) -> list[str] | None:
    """Return the words after `gpu-fleet`, up to the end of the shell command; None if the line does not call it."""
    words = shlex.split(line)
    at = next((i for i, word in enumerate(words) if word.rsplit("/", 1)[-1] == "gpu-fleet"), None)
    if at is None:
        return None
    end = next((i for i, word in enumerate(words) if i > at and word in {"|", ">", ">>", "&&", ";", "<"}), len(words))
    return words[at + 1 : end]


def _problem(words: list[str]) -> str | None:
    """Return the command or option of a call of `gpu-fleet` that does not exist."""
    if not words or words[0].startswith("-"):
        return None
    if words[0] not in cli.COMMANDS:
        return f"no command {words[0]}"
    command, rest = _command(words[0]), words[1:]
    if isinstance(command, typer.core.TyperGroup):
        if not rest or rest[0].startswith("-"):
            return None
        if rest[0] not in command.commands:
            return f"no command {words[0]} {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    known = {"--help", *(option for p in command.params for option in (*p.opts, *p.secondary_opts))}
    unknown = [word for word in rest if word.startswith("--") and word.split("=")[0] not in known]
    return f"{command.name}: no option {unknown[0]}" if unknown else None


def test_every_call_in_a_block_exists():
    wrong = [
        f"{block}: {problem}"
        for block in SHELL
        for line in commands(block.text)
        if (words := _arguments(line)) is not None and (problem := _problem(words))
    ]
    assert not wrong


def test_every_call_in_the_text_exists():
    wrong = []
    for page in pages():
        for line, code in code_in_text(page):
            if not code.startswith("gpu-fleet "):
                continue
            words = [word for word in shlex.split(code)[1:] if not re.fullmatch(r"[A-Z.]+", word)]
            if problem := _problem(words):
                wrong.append(f"{_name(page)}:{line}: {problem}")
    assert not wrong


def test_every_command_is_named_in_the_readme_or_the_docs():
    text = "\n".join(page.read_text() for page in pages() if page.parent.name != "policies")
    assert [name for name in cli.COMMANDS if not re.search(rf"gpu-fleet {name}|`{name}`", text)] == []


def test_every_make_target_in_the_docs_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wrong = []
    for page in pages():
        named = [(line, code) for line, code in code_in_text(page) if code.startswith("make ")]
        lines = [(block.line, line) for block in SHELL if block.page == page for line in commands(block.text)]
        named += [(line, code) for line, code in lines if code.startswith("make ")]
        wrong += [f"{_name(page)}:{line}: {code}" for line, code in named if code.split()[1] not in targets]
    assert not wrong


def test_the_page_for_contributors_shows_what_make_help_prints():
    printed = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert printed.rstrip() in (ROOT / "CONTRIBUTING.md").read_text()


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that an annotation names, at any depth: optional, in a union, in a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _keys(model: type[BaseModel]) -> set[str]:
    """Return the dotted keys, including the sections themselves."""
    out: set[str] = set()
    for name, field in model.model_fields.items():
        out |= {name} | {f"{name}.{key}" for inner in _models(field.annotation) for key in _keys(inner)}
    return out


@cache
def _codes() -> set[str]:
    """Return the reason codes of gpu_fleet/scaling/. Those of the forecast are composed of the method's name."""
    windows = [("trend", TREND_SECONDS), *(("peak", window) for window in PEAKS_SECONDS)]
    methods = ["none", "seasonal", *(f"{name}_{window:.0f}" for name, window in windows)]
    return {made.reason.code for made in reasons.constructors()} | {f"demand.{m}" for m in methods}


DOTTED = re.compile(r"^([a-z_]+)\.[a-z0-9_]+(?:\.[a-z0-9_]+)*(?=$|:| )")
FILES = (".py", ".yaml", ".md", ".go", ".json")


def test_every_key_and_reason_code_that_the_docs_name_exists():
    """Checks dotted words whose first part is a section of a policy or a stack, or a step; not the generated table."""
    known = _keys(Policy) | _keys(StackSettings) | _codes()
    sections = {name.split(".")[0] for name in known if "." in name}
    wrong = [
        f"{_name(page)}:{line}: {code}"
        for page in pages()
        if page.parent.name != "policies"
        for line, code in code_in_text(page)
        if (found := DOTTED.match(code))
        and found[1] in sections
        and found[0] not in known
        and not found[0].endswith(FILES)
        and "(" not in code
    ]
    assert not wrong


ROOMS = "infra|policies|gpu_fleet|lambdas|tests|bench|docs"


def test_every_file_that_the_docs_name_is_there():
    """Checks paths that begin with a room of the project, wildcards and test names after :: included."""
    wrong = []
    for page in pages():
        for line, code in code_in_text(page):
            path, _, test = code.partition("::")
            path = re.sub(r"\{[^}]*\}|<[^>]*>", "*", path).rstrip("/")
            if not re.match(rf"({ROOMS})/[\w*./-]+$", path) or path.endswith("*"):
                continue
            found = list(ROOT.glob(path))
            if not found or (test and f"def {test}(" not in found[0].read_text()):
                wrong.append(f"{_name(page)}:{line}: {code}")
    assert not wrong


def test_every_link_within_the_project_leads_somewhere():
    wrong = []
    for page in pages():
        for line, target in links(page):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            to = (page.parent / path).resolve() if path else page
            if not to.exists() or (anchor and anchor not in anchors(to)):
                wrong.append(f"{_name(page)}:{line}: {target}")
    assert not wrong


def test_every_page_is_linked_from_another():
    linked = {(page.parent / target.partition("#")[0]).resolve() for page in pages() for _, target in links(page)}
    top = {ROOT / "README.md"}
    assert [_name(page) for page in pages() if page not in linked | top] == []


# ---- words --------------------------------------------------------------------------------------------------------

BANNED = {
    r"(?<![\w.])/(work|root|home/\w+)/": "a path of some machine",
    r"(?i)\b(node ?group|worker group)s?\b": "pool",
    r"(?i)\bauto-?scaler lambda\b": "the scaler",
    r"(?i)\b(as an ai|ai-generated|co-authored-by|chatgpt|copilot)\b": "authorship is irrelevant",
    r"(?i)\b(blazing|seamless(ly)?|cutting-edge|state-of-the-art|effortless(ly)?|revolutionary)\b": "no hype",
}


@pytest.mark.parametrize(("pattern", "instead"), BANNED.items())
def test_the_pages_keep_to_the_projects_words(pattern: str, instead: str):
    wrong = [
        f"{_name(page)}:{number}: {line.strip()} ({instead})"
        for page in pages()
        for number, line in enumerate(page.read_text().splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert not wrong


SOURCES = ("*.py", "*.yaml", "*.toml", "*.sh", "*.json", "Makefile")


def test_no_file_names_a_machine_or_a_page_that_is_not_here():
    """Finds paths of some machine, and documents that a reader of this project does not have."""
    folders = [ROOT / room for room in ROOMS.split("|")]
    files = [*ROOT.glob("*.toml"), *ROOT.glob("*.yaml"), ROOT / "Makefile", *ROOT.glob(".ci/*")]
    files += [file for folder in folders for pattern in SOURCES for file in folder.rglob(pattern)]
    here = {page.name for page in pages()}
    wrong = []
    for file in files:
        if file == Path(__file__).resolve() or "__pycache__" in file.parts:
            continue
        for number, line in enumerate(file.read_text().splitlines(), 1):
            names = [name for name in re.findall(r"(?<![\w/.-])[\w-]+\.md\b", line) if name not in here]
            if names or re.search(r"(?<![\w.@:])/(work|home/\w+)/", line):
                wrong.append(f"{file.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not wrong
