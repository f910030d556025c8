"""A page of the documentation, cut into blocks of code, spans of code and links by a Markdown parser.

Every fenced block is run, is parsed where a comment before it says why it is not run, or is no code:

``<!-- starts with: images runs -->``
    Anywhere in the page: what its commands find in their folder (`doc_world.STARTING_POINTS`).
``<!-- loads: module.py -->``
    In the page of a plugin: its file, beside the page, which installing it would load.
``<!-- not run: needs a download -->``
    Right before a block: its commands are only parsed.
``<!-- exits with 1: one image cannot be read -->``
    Right before a block: the exit code of its last command.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt

COMMENT = re.compile(r"<!--\s*(not run|exits with|starts with|loads)\b\s*(.*?)\s*-->", re.DOTALL)


class PageError(AssertionError):
    """A page is not written as pages are; the message says where and why."""


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes
    ----------
    where : str
        ``page:line`` of its first line of code.
    not_run : str or None
        Why it is only parsed.
    exit_code : int
        Of its last command.
    """

    where: str
    language: str
    code: str
    not_run: str | None = None
    exit_code: int = 0

    @property
    def file(self) -> str | None:
        """The name of the file that it shows: in a comment, its first line."""
        name = re.match(r"# ([\w./-]+\.\w+)\n", self.code)
        return name[1] if name else None


@dataclass
class Page:
    """What one Markdown file says."""

    path: Path
    name: str
    blocks: list[Block] = field(default_factory=list)
    spans: list[tuple[str, str]] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    starts_with: list[str] = field(default_factory=list)
    loads: list[Path] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)


def read_page(path: Path, root: Path) -> Page:
    """Parse a page.

    Raises
    ------
    PageError
        If a comment is not understood, or stands before no block.
    """
    page = Page(path, path.relative_to(root).as_posix())
    comment: dict[str, str] = {}
    line = 0
    tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        line = token.map[0] + 1 if token.map else line
        where = f"{page.name}:{line}"
        if token.type == "fence":
            code = token.content
            if comment.get("not run") == "" or ("exits with" in comment and not comment["exits with"]):
                raise PageError(f"{where}: the comment before this block gives no reason")
            number = re.match(r"(\d+): \S", comment.get("exits with", "0: default"))
            if number is None:
                raise PageError(f"{where}: expected <!-- exits with N: reason -->")
            reason = comment.get("not run")
            block = Block(f"{page.name}:{line + 1}", token.info.strip(), code, reason, int(number[1]))
            page.blocks.append(block)
            comment = {}
            continue
        if comment and token.nesting >= 0:
            raise PageError(f"{where}: a comment {sorted(comment)} stands before no block")
        if token.type == "html_block":
            for kind, text in COMMENT.findall(token.content):
                text = text.removeprefix(":").strip()
                if kind == "starts with":
                    page.starts_with += text.split()
                elif kind == "loads":
                    page.loads += [path.parent / name for name in text.split()]
                else:
                    comment[kind] = text
            if comment and following is None:
                raise PageError(f"{where}: a comment {sorted(comment)} stands before no block")
        elif token.type == "code_block":
            raise PageError(f"{where}: an indented block; write ```language")
        elif token.type == "heading_open" and following is not None:
            page.anchors.add(_anchor(following.content))
        for child in token.children or []:
            if child.type == "code_inline":
                page.spans.append((where, child.content))
            elif child.type in ("link_open", "image"):
                page.links.append((where, str(child.attrs.get("href") or child.attrs.get("src"))))
    return page


def _anchor(heading: str) -> str:
    """As GitHub makes them."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
