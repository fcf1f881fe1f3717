"""Photographs that installed packages ship: found by path, with no import and no download.

None is copied into this project, and each stays under the licence that its package states.
scikit-image: `astronaut` (NASA) and `rocket` (SpaceX), in the public domain; `brick`, `camera`,
`chelsea`, `coffee`, `grass` and `gravel`, CC0; `coins` (Brooklyn Museum), no known restrictions;
`motorcycle`, of the Middlebury 2014 stereo benchmark. scikit-learn: `china` (danielbuechele) and
`flower` (vultilion), CC BY 2.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnst import images, storage
from nnst.errors import ImageError, InputError

_SKIMAGE = ("skimage", "data")
_SKLEARN = ("sklearn", "datasets/images")
_FILES: Mapping[str, tuple[str, str, str]] = {  # name -> package, folder, file
    "astronaut": (*_SKIMAGE, "astronaut.png"),
    "brick": (*_SKIMAGE, "brick.png"),
    "camera": (*_SKIMAGE, "camera.png"),
    "chelsea": (*_SKIMAGE, "chelsea.png"),
    "china": (*_SKLEARN, "china.jpg"),
    "coffee": (*_SKIMAGE, "coffee.png"),
    "coins": (*_SKIMAGE, "coins.png"),
    "flower": (*_SKLEARN, "flower.jpg"),
    "grass": (*_SKIMAGE, "grass.png"),
    "gravel": (*_SKIMAGE, "gravel.png"),
    "motorcycle": (*_SKIMAGE, "motorcycle_left.png"),
    "rocket": (*_SKIMAGE, "rocket.jpg"),
}
TO_LEARN_FROM = ("astronaut", "brick", "camera", "coffee", "coins", "grass")
TO_SEARCH = ("chelsea", "china", "flower", "gravel", "motorcycle", "rocket")
"""No photograph is in both, so a figure measured on the second says what was learnt."""


def photographs(names: Iterable[str] = tuple(_FILES)) -> dict[str, NDArray[np.uint8]]:
    """name -> (H, W, 3) RGB pixels. Raises InputError when a package is not there as expected."""
    return {name: _read(*_FILES[name]) for name in names}


def _read(package: str, folder: str, file: str) -> NDArray[np.uint8]:
    path = _folder_of(package) / folder / file
    try:
        return images.decode(storage.read(path)).pixels
    except (OSError, ImageError) as error:
        what = f"cannot read a photograph of the package {package}, {path}: {error}"
        raise InputError(what, "install nnst again, with what it depends on") from None


def _folder_of(package: str) -> Path:
    """Where a package is installed, found without running its code."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        what = f"no package {package}, whose photographs are needed"
        raise InputError(what, "install nnst again, with what it depends on")
    return Path(found.submodule_search_locations[0])
