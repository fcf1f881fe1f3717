"""Figures by the size of the logo: which sizes are found, and which are not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nnst.evaluation.curves import average_precision
from nnst.evaluation.results import SizeSlice
from nnst.evaluation.verdicts import Verdicts

SIZES = ("small", "medium", "large")
LEAST_MEDIUM, LARGEST_MEDIUM = 32, 96  # pixels, the bounds of COCO (Lin et al. 2014)


def slices_of(verdicts: Verdicts, threshold: float) -> tuple[SizeSlice, ...]:
    """The figures of each size: small is below 32, large above 96, medium all between.

    The size of a box is the root of its area in pixels of the stored picture. A detection that
    found a truth box counts where that box does, and a false one by its own size, as COCO has it.
    """
    found, truth = _size(verdicts.side), _size(verdicts.truth_side)  # (N,), (M,)
    kept = verdicts.kept(threshold)
    slices = []
    for index, size in enumerate(SIZES):
        here, boxes = found == index, int((truth == index).sum())
        known = boxes and not np.isnan(threshold)
        slices.append(
            SizeSlice(
                size=size,
                boxes=boxes,
                recall=int(verdicts.tp[here & kept].sum()) / boxes if known else float("nan"),
                ap50=average_precision(verdicts.scores[here], verdicts.tp[here], boxes),
            )
        )
    return tuple(slices)


def _size(side: NDArray[np.float64]) -> NDArray[np.intp]:
    """(N,) which of SIZES."""
    return (side >= LEAST_MEDIUM).astype(np.intp) + (side > LARGEST_MEDIUM)
