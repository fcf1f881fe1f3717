"""Many trainings with different settings, as trials of Ray Tune: the only package that knows it.

`space` is which settings there are to try, `trial` one training, as its process does it, and
`search` all of them: how many at once, and which are stopped early. What trials come to is kept in
files of ours, so that a search which was interrupted goes on with the same command. Importing them
imports neither Ray nor torch.
"""

from workflows.tuner.search import Search, search
from workflows.tuner.space import DEFAULT_SPACE, Point, points, read_space
from workflows.tuner.trial import Trials, Tried

__all__ = [
    "DEFAULT_SPACE",
    "Point",
    "Search",
    "Trials",
    "Tried",
    "points",
    "read_space",
    "search",
]
