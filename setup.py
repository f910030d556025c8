"""What a package index shows: the README, with links that lead somewhere from there. The rest is in setup.cfg."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import setup

REPOSITORY = ""
"""The public address of the repository, without a slash at its end. Without one, links become plain text."""

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:)([^)\s]+)\)")


def readme_for(text: str, repository: str) -> str:
    """A README whose pictures and pages lie in a repository, or whose links to them are plain text without one."""

    def replace(match: re.Match[str]) -> str:
        picture, words, target = match.groups()
        if not repository:
            return f"*{words}*" if picture else words
        if target.startswith("#"):
            return match[0]
        return f"{picture}[{words}]({repository}/{'raw' if picture else 'blob'}/main/{target})"

    return _LINK.sub(replace, text)


def project_urls(repository: str) -> dict[str, str]:
    """Where source, pages and issues are."""
    pages = {
        "Source": "",
        "Documentation": "/blob/main/docs/README.md",
        "Changelog": "/blob/main/CHANGELOG.md",
        "Issues": "/issues",
    }
    return {name: repository + path for name, path in pages.items()} if repository else {}


if __name__ == "__main__":
    readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    setup(
        long_description=readme_for(readme, REPOSITORY),
        long_description_content_type="text/markdown",
        project_urls=project_urls(REPOSITORY),
    )
