"""A picture of a running page: `python -m docs.generate.screenshots http://127.0.0.1:8501 overview.png`."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")


def browser_path() -> str | None:
    """CHROMIUM, else the first browser on PATH, else None for playwright's own."""
    return os.environ.get("CHROMIUM") or next((p for name in BROWSERS if (p := shutil.which(name))), None)


def take(url: str, out: Path, width: int = 1400, height: int = 900, dark: bool = False) -> None:
    """Write a PNG of the whole page at `width` CSS pixels, once it has stopped drawing."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path(), args=list(FLAGS))
        try:
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if dark else "light",
                reduced_motion="reduce",
            )
            page.goto(url, wait_until="domcontentloaded")
            page.locator(".lab-head").first.wait_for(timeout=30_000)
            page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for(timeout=30_000)
            page.wait_for_timeout(1500)  # plotly and the table draw after the script has ended
            # Streamlit scrolls inside the page, so a picture of all of it needs a window as tall as its content.
            tall = 0
            for _ in range(10):  # a table that is drawn late makes the page taller
                before, tall = tall, int(page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight"))
                if tall == before:
                    break
                page.set_viewport_size({"width": width, "height": max(height, tall)})
                page.wait_for_timeout(1000)
            out.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=str(out))
        finally:
            browser.close()


def main() -> None:
    """Read the command line and take the picture."""
    parser = argparse.ArgumentParser(description="Take a picture of a running page.")
    parser.add_argument("url", help="http://127.0.0.1:8501")
    parser.add_argument("out", type=Path, help="overview.png")
    parser.add_argument("--width", type=int, default=1400, help="CSS pixels (default 1400)")
    parser.add_argument("--dark", action="store_true", help="with the dark theme")
    given = parser.parse_args()
    take(given.url, given.out, given.width, dark=given.dark)


if __name__ == "__main__":
    main()
