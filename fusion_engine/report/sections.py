"""Sections that plugins add: Markdown to HTML, without raw HTML and without anything from outside."""

from collections.abc import Iterable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from fusion_engine.report.tiles import data_uri

TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp"}
"""Pictures in a run's folder that a section may show."""
LEVEL = 2
"""A section's title is a heading of this level; those in its text come below."""


def as_html(text: str, folder: Path) -> Markup:
    """Turn Markdown into HTML; pictures in the run's folder are put into the page, others become their description."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    env: MutableMapping[str, Any] = {}
    tokens = markdown.parse(text, env)
    for token in _all(tokens):
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1:]) + LEVEL)}"
        elif token.type == "link_open":
            token.attrSet("rel", "noreferrer")
        elif token.type == "image":
            _embed(token, folder)
    return Markup(markdown.renderer.render(tokens, markdown.options, env))  # escaped by the renderer


def _all(tokens: Iterable[Token]) -> Iterable[Token]:
    for token in tokens:
        yield token
        yield from _all(token.children or ())


def _embed(token: Token, folder: Path) -> None:
    source = str(token.attrGet("src") or "")
    if source.startswith("data:"):
        return
    path = (folder / source).resolve()
    if path.suffix in TYPES and path.is_relative_to(folder.resolve()) and path.is_file():
        token.attrSet("src", data_uri(TYPES[path.suffix], path.read_bytes()))
        return
    token.type, token.tag, token.content, token.children = "text", "", _description(token.children or []), None


def _description(children: Sequence[Token]) -> str:
    return "[" + ("".join(child.content for child in children) or "a picture") + "]"
