"""There is one logo, wherever it is shown."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
BRAND = runpy.run_path(str(ROOT / "docs" / "images" / "make_brand.py"))


def test_page_shows_the_icon_that_the_script_draws() -> None:
    assert (ROOT / "addon" / "clap_server" / "web" / "icon.svg").read_text(encoding="utf-8") == BRAND["svg"]()


@pytest.mark.parametrize(
    "path", ["custom_components/clap_sound/brand/icon.png", "addon/icon.png", "docs/images/icon.png"]
)
def test_every_icon_has_the_same_colours(path: str) -> None:
    with Image.open(ROOT / path) as icon:
        pixel = icon.convert("RGB").getpixel((icon.width // 8, icon.height // 2))
    middle = [(top + bottom) / 2 for top, bottom in zip(BRAND["TOP"], BRAND["BOTTOM"], strict=True)]
    # The splinters differ a little in brightness.
    assert pixel == pytest.approx(middle, abs=12)
