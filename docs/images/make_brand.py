"""Draws the project's icons and logos: a pane of glass with a sound wave in it, breaking.

Run it again after a change: ``.venv/server/bin/python docs/images/make_brand.py``. The results are committed,
because Home Assistant, HACS and the Supervisor take plain PNG files. The server's page has the same as SVG.
"""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

ROOT = Path(__file__).resolve().parents[2]
BRAND = ROOT / "custom_components" / "clap_sound" / "brand"
ADDON = ROOT / "addon"
IMAGES = ROOT / "docs" / "images"

CANVAS = 2048  # everything is drawn this large and scaled down, which smooths the edges
TOP, BOTTOM = (64, 190, 255), (43, 80, 214)  # glass, from its upper to its lower edge
INK_LIGHT, INK_DARK = (28, 43, 84), (236, 242, 255)  # lettering on a light and on a dark page

# The pane is a square from MARGIN to CANVAS - MARGIN; something hit it at IMPACT.
MARGIN, CORNER = 180, 300
IMPACT = (1440, 640)
# Cracks run from the impact to the edge: angle in degrees, clockwise from the right, and how bright the
# splinter that follows it is, and how far it has flown off, in pixels.
CRACKS = (
    (-118, 1.10, 0),
    (-64, 0.97, 60),
    (-33, 1.16, 120),
    (-2, 0.99, 90),
    (38, 1.13, 22),
    (80, 1.00, 0),
    (164, 1.05, 0),
)
GAP = 34  # width of a crack
# The wave: bars with their height, left to right.
BARS = (340, 720, 1000, 560, 300)
BAR_WIDTH, BAR_STEP, BARS_LEFT, BARS_MIDDLE = 122, 228, 352, 1120


def _gradient() -> Image.Image:
    column = Image.new("RGB", (1, CANVAS))
    for y in range(CANVAS):
        part = y / (CANVAS - 1)
        column.putpixel((0, y), tuple(round(a + (b - a) * part) for a, b in zip(TOP, BOTTOM, strict=True)))
    return column.resize((CANVAS, CANVAS))


def _pane() -> Image.Image:
    mask = Image.new("L", (CANVAS, CANVAS))
    edge = CANVAS - MARGIN
    ImageDraw.Draw(mask).rounded_rectangle((MARGIN, MARGIN, edge, edge), CORNER, fill=255)
    return mask


def _ray(angle: float, length: float = 4000) -> tuple[float, float]:
    radians = math.radians(angle)
    return (IMPACT[0] + length * math.cos(radians), IMPACT[1] + length * math.sin(radians))


def _splinter(start: float, end: float) -> Image.Image:
    """Everything between two cracks, less half a crack on each side."""
    mask = Image.new("L", (CANVAS, CANVAS))
    draw = ImageDraw.Draw(mask)
    steps = [start + (end - start) * part / 8 for part in range(9)]
    draw.polygon([IMPACT, *(_ray(angle) for angle in steps)], fill=255)
    for angle in (start, end):
        draw.line([IMPACT, _ray(angle)], fill=0, width=GAP)
    return mask


def _wave() -> Image.Image:
    mask = Image.new("L", (CANVAS, CANVAS))
    draw = ImageDraw.Draw(mask)
    for index, height in enumerate(BARS):
        left = BARS_LEFT + index * BAR_STEP
        box = (left, BARS_MIDDLE - height / 2, left + BAR_WIDTH, BARS_MIDDLE + height / 2)
        draw.rounded_rectangle(box, BAR_WIDTH / 2, fill=255)
    return mask


def _shade(image: Image.Image, factor: float) -> Image.Image:
    return image.point(lambda value: min(255, round(value * factor)))


def icon() -> Image.Image:
    """Draw the icon, CANVAS by CANVAS."""
    result = Image.new("RGBA", (CANVAS, CANVAS))
    colours, pane = _gradient(), _pane()
    wave = Image.new("RGB", (CANVAS, CANVAS), "white")
    colours.paste(wave, (0, 0), _wave())
    for index, (start, brightness, distance) in enumerate(CRACKS):
        end = CRACKS[(index + 1) % len(CRACKS)][0] + (360 if index + 1 == len(CRACKS) else 0)
        mask = ImageChops.multiply(pane, _splinter(start, end))
        shaded = Image.composite(wave, _shade(colours, brightness), _wave())
        middle = math.radians((start + end) / 2)
        offset = (round(distance * math.cos(middle)), round(distance * math.sin(middle)))
        splinter = Image.new("RGBA", (CANVAS, CANVAS))
        splinter.paste(shaded, offset, mask)
        moved = ImageChops.offset(mask, *offset)
        splinter.putalpha(moved)
        result.alpha_composite(splinter)
    return result


def svg() -> str:
    """Draw the icon as vectors."""
    pane = CANVAS - 2 * MARGIN
    wave = "".join(
        f'<rect x="{BARS_LEFT + index * BAR_STEP}" y="{BARS_MIDDLE - height / 2:g}" width="{BAR_WIDTH}"'
        f' height="{height}" rx="{BAR_WIDTH / 2:g}"/>'
        for index, height in enumerate(BARS)
    )
    defs = (
        f'<rect id="pane" x="{MARGIN}" y="{MARGIN}" width="{pane}" height="{pane}" rx="{CORNER}"/>'
        f'<g id="wave" fill="#fff">{wave}</g>'
    )
    splinters = ""
    for index, (start, brightness, distance) in enumerate(CRACKS):
        end = CRACKS[(index + 1) % len(CRACKS)][0] + (360 if index + 1 == len(CRACKS) else 0)
        middle = math.radians((start + end) / 2)
        # Less half a crack on each side.
        tip = GAP / 2 / math.sin(math.radians((end - start) / 2))
        x, y = tip * math.cos(middle), tip * math.sin(middle)
        corners = [IMPACT, *(_ray(start + (end - start) * part / 8) for part in range(9))]
        points = " ".join(f"{left + x:.0f},{top + y:.0f}" for left, top in corners)
        colours = [
            "#" + bytes(min(255, round(c * brightness)) for c in colour).hex() for colour in (TOP, BOTTOM)
        ]
        defs += (
            f'<clipPath id="s{index}"><polygon points="{points}"/></clipPath>'
            f'<linearGradient id="g{index}" gradientUnits="userSpaceOnUse" x2="0" y2="{CANVAS}">'
            f'<stop stop-color="{colours[0]}"/><stop offset="1" stop-color="{colours[1]}"/></linearGradient>'
        )
        moved = f"{distance * math.cos(middle):.0f} {distance * math.sin(middle):.0f}"
        splinters += (
            f'<g transform="translate({moved})"><g clip-path="url(#s{index})">'
            f'<use href="#pane" fill="url(#g{index})"/><use href="#wave"/></g></g>'
        )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {CANVAS} {CANVAS}">'
    return f"{head}<defs>{defs}</defs>{splinters}</svg>\n"


def scaled(image: Image.Image, width: int, height: int) -> Image.Image:
    """Scale down, a little sharper than the plain filter."""
    small = image.resize((width, height), Image.Resampling.LANCZOS)
    return small.filter(ImageFilter.UnsharpMask(radius=0.6, percent=40, threshold=0))


def logo(ink: tuple[int, int, int]) -> Image.Image:
    """Draw the icon with the name beside it."""
    mark = icon().crop((100, 60, 2010, 1970))
    font = ImageFont.truetype("DejaVuSans-Bold.ttf", 860)
    light = ImageFont.truetype("DejaVuSans.ttf", 860)
    words = (("CLAP", font), (" Sound", light))
    width = 2200 + round(sum(face.getlength(text) for text, face in words))
    result = Image.new("RGBA", (width, 1910))
    result.alpha_composite(mark)
    draw = ImageDraw.Draw(result)
    x = 2120.0
    for text, face in words:
        draw.text((x, 990), text, font=face, fill=ink, anchor="lm")
        x += face.getlength(text)
    return result


def main() -> None:
    """Write all files."""
    mark = icon()
    BRAND.mkdir(parents=True, exist_ok=True)
    for path, size in (
        (BRAND / "icon.png", 256),
        (BRAND / "icon@2x.png", 512),
        (ADDON / "icon.png", 128),
        (IMAGES / "icon.png", 256),
    ):
        scaled(mark, size, size).save(path, optimize=True)
    (ADDON / "clap_server" / "web" / "icon.svg").write_text(svg(), encoding="utf-8")
    for prefix, ink in (("", INK_LIGHT), ("dark_", INK_DARK)):
        words = logo(ink)
        for suffix, height in (("", 128), ("@2x", 256)):
            width = round(words.width * height / words.height)
            scaled(words, width, height).save(BRAND / f"{prefix}logo{suffix}.png", optimize=True)
    words = logo(INK_LIGHT)
    scaled(words, 250, round(words.height * 250 / words.width)).save(ADDON / "logo.png", optimize=True)


if __name__ == "__main__":
    main()
