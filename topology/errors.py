"""Errors of everything that reads or models a grid: one line that names the thing and the remedy."""


class GridError(ValueError):
    """Input that cannot be a grid. The message is one line: where, what is wrong, what to do.

    `source` is a file or a container name, `where` the row or element in it.
    """

    def __init__(self, source: str, where: str, problem: str, remedy: str) -> None:
        self.source = source
        self.where = where
        self.problem = problem
        self.remedy = remedy
        place = f"{source}: {where}" if where else source
        super().__init__(f"{place}: {problem}; {remedy}")
