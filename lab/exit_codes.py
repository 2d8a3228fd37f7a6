"""Exit codes of the command line: 0 done, 1 failed, 2 a mistake of the user, 3 a gate said no."""

from __future__ import annotations

EXIT_FAILED, EXIT_GATE = 1, 3
