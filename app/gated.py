"""The web page behind a password: `lab up --lan` runs this with LAB_PAGE_PASSWORD; without it, it does not start."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.middleware import Middleware
from streamlit.starlette import App

from app.gate import PASSWORD, Gate
from common.same_origin import SameOrigin, machine_names

password = os.environ.pop(PASSWORD, "")
app = App(
    Path(__file__).with_name("home.py"),
    middleware=[Middleware(SameOrigin, names=machine_names()), Middleware(Gate, password=password)],
)
