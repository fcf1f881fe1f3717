"""Photographs with a made-up word mark in them, and where it is: material for the demo.

`artwork` holds the word marks, `signs` puts one on a plate or a wall, `drawing` draws signs into
a photograph, `photographs` finds those that installed packages ship, and `sets` writes folders.
"""

from __future__ import annotations

from nnst.scenes.drawing import OTHER, Scene, draw
from nnst.scenes.photographs import TO_LEARN_FROM, TO_SEARCH, photographs
from nnst.scenes.sets import SETS, PictureSet, write

__all__ = [
    "OTHER",
    "SETS",
    "TO_LEARN_FROM",
    "TO_SEARCH",
    "PictureSet",
    "Scene",
    "draw",
    "photographs",
    "write",
]
