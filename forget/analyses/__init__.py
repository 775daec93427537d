"""The paper's analyses, each a function of a `Study`; every number has its interval.

Nothing here draws or writes; forget.report does.
"""

from forget.analyses.study import Cell, Study

__all__ = ["Cell", "Study"]
