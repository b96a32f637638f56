"""The pictures that Home Assistant shows for the integration."""

from __future__ import annotations

import pytest
from PIL import Image

from tests.packaging.support import INTEGRATION


@pytest.mark.parametrize(("name", "size"), [("icon.png", 256), ("icon@2x.png", 512)])
def test_icons_are_square_and_of_the_size_that_home_assistant_wants(name: str, size: int) -> None:
    with Image.open(INTEGRATION / "brand" / name) as picture:
        assert (picture.format, picture.size) == ("PNG", (size, size))


@pytest.mark.parametrize("prefix", ["", "dark_"])
def test_logos_are_wide_and_the_double_ones_are_double(prefix: str) -> None:
    with Image.open(INTEGRATION / "brand" / f"{prefix}logo.png") as single:
        with Image.open(INTEGRATION / "brand" / f"{prefix}logo@2x.png") as double:
            assert 128 <= min(single.size) <= 256
            assert min(double.size) == 2 * min(single.size)
        assert single.width > single.height


@pytest.mark.parametrize("name", ["icon.png", "logo.png", "dark_logo.png"])
def test_pictures_are_transparent_around_the_mark(name: str) -> None:
    with Image.open(INTEGRATION / "brand" / name) as picture:
        assert picture.convert("RGBA").getchannel("A").getpixel((0, 0)) == 0
