"""The pictures of the documentation are there, small, and made by the tool that says so."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from PIL import Image
from rich.text import Text

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"


def test_pictures_are_small_and_readable() -> None:
    paths = sorted(IMAGES.iterdir())
    assert {"leaderboard.svg", "roc.svg", "panels.jpg", "kinds.jpg"} <= {path.name for path in paths}
    for path in paths:
        assert path.stat().st_size < 150_000
        if path.suffix == ".svg":
            assert "<svg" in path.read_text(encoding="utf-8")
        else:
            with Image.open(path) as image:
                image.load()


def test_a_terminal_as_svg_needs_no_network(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_images", ROOT / "tools" / "make_images.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.save_terminal(Text("a<b ━━╸", style="green"), tmp_path / "shown.svg", "padim-zoo", 40)
    for path in (tmp_path / "shown.svg", *IMAGES.glob("*.svg")):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"(?:href|src)=[\"']?http|url\([\"']?http|@import|@font-face", text)
    assert "━━╸" in (tmp_path / "shown.svg").read_text(encoding="utf-8")
