"""The web page on loopback, as `lab up` runs it: no password, and closed to the web pages of others."""

from __future__ import annotations

from pathlib import Path

from starlette.middleware import Middleware
from streamlit.starlette import App

from common.same_origin import SameOrigin

app = App(Path(__file__).with_name("home.py"), middleware=[Middleware(SameOrigin)])
