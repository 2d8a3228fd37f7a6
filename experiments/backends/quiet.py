"""Loading without a word: bars and advice of the libraries do not belong in a log that people read."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing is printed inside; what goes wrong is still raised.

    transformers' bars and advice stay off afterwards, since generating prints them as well.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # The bar of the GGUF conversion is tqdm's own and knows no switch, and peft asks for an attribute that
    # transformers calls deprecated.
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
