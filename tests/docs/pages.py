"""Code blocks, inline code, links and headings of the project's Markdown pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced code block. `info` holds the words after the fence: the language, and a second word for the use."""

    page: Path
    line: int
    info: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Return every page of the project."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "policies").glob("*.md")])


@cache
def _tokens(page: Path) -> list[Token]:
    return MarkdownIt().enable("table").parse(page.read_text())


def blocks(*info: str) -> list[Block]:
    """Return the blocks of all pages whose info begins with these words."""
    return [
        Block(page, (token.map or [0])[0] + 1, words, token.content)
        for page in pages()
        for token in _tokens(page)
        if token.type == "fence" and (words := tuple(token.info.split()))[: len(info)] == info
    ]


def _children(page: Path) -> Iterator[tuple[int, Token]]:
    for token in _tokens(page):
        for child in token.children or ():
            yield (token.map or [0])[0] + 1, child


def code_in_text(page: Path) -> list[tuple[int, str]]:
    """Return inline code with its line."""
    return [(line, child.content) for line, child in _children(page) if child.type == "code_inline"]


def links(page: Path) -> list[tuple[int, str]]:
    """Return the targets of links and pictures with their line."""
    out = []
    for line, child in _children(page):
        target = child.attrGet("href") if child.type == "link_open" else child.attrGet("src")
        if target:
            out.append((line, str(target)))
    return out


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page: its headings as GitHub writes them."""
    out: set[str] = set()
    tokens = _tokens(page)
    for i, token in enumerate(tokens):
        if token.type == "heading_open":
            text = "".join(c.content for c in tokens[i + 1].children or () if c.type in {"text", "code_inline"})
            out.add(re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-"))
    return out


def commands(text: str) -> list[str]:
    """Return the command lines of a shell block: continued lines joined, comments removed."""
    joined = text.replace("\\\n", " ")
    return [line for raw in joined.splitlines() if (line := raw.split(" #")[0].strip()) and not line.startswith("#")]
