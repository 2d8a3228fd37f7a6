"""Exit codes of `lab`."""

from __future__ import annotations

EXIT_FAILED = 1  # the work failed, or something was found to be wrong
EXIT_MISTAKE = 2  # a mistake of the user: the message says what mends it
EXIT_GATE = 3  # a gate said FAIL, or stopped the chain
EXIT_INTERRUPTED = 130  # Ctrl-C
