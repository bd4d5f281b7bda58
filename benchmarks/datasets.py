"""Data sets that need no download: the demo, scikit-learn's digits, characters in the fonts that matplotlib brings, and emoji.

The emoji need Debian's packages fonts-noto-color-emoji and unicode-data.
"""

from pathlib import Path

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits

from darkroom.data import demo

FACES = {"sans": "DejaVu Sans", "mono": "DejaVu Sans Mono", "serif": "DejaVu Serif", "stix": "STIXGeneral"}
SIZES = (30, 36, 42, 48)  # points
EMOJI_FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
EMOJI_LIST = Path("/usr/share/unicode/emoji/emoji-test.txt")
CHARACTERS = [chr(code) for code in range(33, 127)] + [chr(code) for code in range(0xC0, 0x100)]


def lay_out(name: str, folder: Path) -> None:
    """Write the images of `name` (demo, digits, typefaces or emoji) to `folder`, a folder per class."""
    {"demo": demo.lay_out, "digits": _digits, "typefaces": _typefaces, "emoji": _emoji}[name](folder)


def _digits(folder: Path) -> None:
    """1,797 scanned digits of 8 x 8 pixels, enlarged to 32 x 32."""
    digits = load_digits()
    for index, (picture, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        of_class = folder / f"digit-{label}"
        of_class.mkdir(parents=True, exist_ok=True)
        Image.fromarray((picture * 255 / 16).astype(np.uint8)).resize((32, 32)).save(of_class / f"{index:04d}.png")


def _typefaces(folder: Path) -> None:
    """158 characters in four typefaces, which are the classes, and four sizes: 64 x 64 pixels, each a little off the centre."""
    random = np.random.default_rng(0)
    for label, family in FACES.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        path = font_manager.findfont(family, fallback_to_default=False)
        for size in SIZES:
            font = ImageFont.truetype(path, size)
            for character in CHARACTERS:
                picture = Image.new("L", (64, 64), 255)
                x, y = 32 + random.integers(-6, 7, 2)
                ImageDraw.Draw(picture).text((x, y), character, 0, font, anchor="mm")
                picture.save(folder / label / f"{ord(character):03d}-{size}.png")


def _emoji(folder: Path) -> None:
    """Coloured drawings of 136 x 128 pixels on white, one per emoji of a single character. The classes are Unicode's groups."""
    font = ImageFont.truetype(EMOJI_FONT, 109)  # the only size that the font has
    group = ""
    for line in EMOJI_LIST.read_text(encoding="utf-8").splitlines():
        if line.startswith("# group:"):
            group = line.split(":")[1].strip().replace(" & ", "-")
        points = line.split(";")[0].split()
        # U+FE0F only asks for the coloured form.
        if (
            "; fully-qualified" not in line
            or len([point for point in points if point != "FE0F"]) > 1
            or group == "Flags"
        ):
            continue
        (folder / group).mkdir(parents=True, exist_ok=True)
        picture = Image.new("RGB", (136, 128), "white")
        ImageDraw.Draw(picture).text((0, 0), chr(int(points[0], 16)), font=font, embedded_color=True)
        picture.save(folder / group / f"{points[0]}.png")
