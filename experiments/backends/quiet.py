"""Silence the progress bars and advice that libraries print while they load a model."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr


@contextmanager
def quiet() -> Iterator[None]:
    """Print nothing inside; errors are still raised.

    transformers' bars and advice stay off afterwards, since generating prints them as well.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # The GGUF conversion's bar is tqdm's own and has no switch; peft uses an attribute that transformers deprecates.
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
