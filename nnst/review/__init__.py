"""What people say of a scan's detections: the order to ask in, what it tells, truth made of it.

`order` says which detections are worth a look first, `verdicts` keeps what was said, `estimates`
draws precision and recall from it, `truth` makes boxes to learn from.
"""

from __future__ import annotations

from nnst.review.estimates import Figures, figures
from nnst.review.order import Order, disagreeing, order
from nnst.review.truth import NEGATIVE, Reviewed, reviewed
from nnst.review.verdicts import VERDICTS, VerdictLog

__all__ = [
    "NEGATIVE",
    "VERDICTS",
    "Figures",
    "Order",
    "Reviewed",
    "VerdictLog",
    "disagreeing",
    "figures",
    "order",
    "reviewed",
]
