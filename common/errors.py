"""The error that a user sees: what was wrong, the value seen, and the command that mends it."""

from common.urls import without_secrets


class LabError(Exception):
    """A mistake that the user can mend; the command line prints it on one line and exits with 2.

    Args:
        what: what was wrong, with the value seen ("unknown phase 'p9'").
        mend: what to do, if possible a command to copy ("choose one of: p1, p2, p3, e0, e1, e2").
    """

    def __init__(self, what: str, mend: str = "") -> None:
        self.what = without_secrets(what)
        self.mend = without_secrets(mend)
        super().__init__(f"{self.what}. {self.mend}" if mend else self.what)
