"""imglab XML, dlib's format for boxes on pictures: tolerant in, strict out.

What dlib's reader refuses stops ours: a box left out would teach its logo as background. Fractions
of a pixel are rounded. What cannot matter is left out, and told in `Dataset.warnings`.

`truth` holds the records, `markup` reads and writes XML from strangers, `document` knows imglab's,
`editing` is a file that a person is at work on.
"""

from __future__ import annotations

from nnst.imglab.document import read, write
from nnst.imglab.editing import TruthFile
from nnst.imglab.truth import GENDERS, Box, Dataset, Image, Part, annotation, picture_path

__all__ = [
    "GENDERS",
    "Box",
    "Dataset",
    "Image",
    "Part",
    "TruthFile",
    "annotation",
    "picture_path",
    "read",
    "write",
]
