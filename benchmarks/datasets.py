"""Three data sets that need no download: the demo, scikit-learn's digits, and characters in the fonts that matplotlib brings."""

from pathlib import Path

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits

from darkroom.data import demo

FACES = {"sans": "DejaVu Sans", "mono": "DejaVu Sans Mono", "serif": "DejaVu Serif", "stix": "STIXGeneral"}
SIZES = (30, 36, 42, 48)  # points
CHARACTERS = [chr(code) for code in range(33, 127)] + [chr(code) for code in range(0xC0, 0x100)]


def lay_out(name: str, folder: Path) -> None:
    """Write the images of `name` (demo, digits or typefaces) to `folder`, a folder per class."""
    {"demo": demo.lay_out, "digits": _digits, "typefaces": _typefaces}[name](folder)


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
