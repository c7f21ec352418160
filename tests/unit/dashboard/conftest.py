"""A headless Chromium for the pages, and made-up gateways for it to look at."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fake_api import FakeApi, World
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
TIMEOUT_MS = 20_000


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser of Debian; where it has to be, its absence is a failure."""
    if not CHROMIUM.exists():
        if os.environ.get("CI") or os.environ.get("GATEWAY_LAB_REQUIRED"):
            pytest.fail(f"{CHROMIUM} is missing: apt-get install chromium")
        pytest.skip(f"{CHROMIUM} is missing: apt-get install chromium")
    bound = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(
        resource.RLIMIT_AS, (bound[1], bound[1])
    )  # it reserves far more than it uses
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
            resource.setrlimit(resource.RLIMIT_AS, bound)
            yield browser
            browser.close()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, bound)


class Visit:
    """Somebody who looks at a gateway: the page, and what its console said."""

    def __init__(self, context: BrowserContext, api: FakeApi) -> None:
        self.api = api
        self.world = api.world
        self.page: Page = context.new_page()
        self.page.set_default_timeout(TIMEOUT_MS)
        self.complaints: list[str] = []
        self.page.on(
            "console",
            lambda message: (
                self.complaints.append(message.text)
                if message.type in {"error", "warning"}
                else None
            ),
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def go(self, address: str) -> Page:
        """Open a page and wait until it has its data."""
        self.page.goto("about:blank")
        self.page.goto(self.api.url + address)
        self.page.wait_for_selector("main:not([aria-busy]) h1")
        return self.page


Look = Callable[..., Visit]


@pytest.fixture
def look(chromium: Browser) -> Iterator[Look]:
    """Look at a made-up gateway: ``look(world, width=360, theme="dark")``."""
    with ExitStack() as stack:

        def made(
            world: World, *, width: int = 1280, height: int = 800, theme: str = "light"
        ) -> Visit:
            api = stack.enter_context(FakeApi(world))
            context = chromium.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if theme == "dark" else "light",
                reduced_motion="reduce",
                accept_downloads=True,
            )
            stack.callback(context.close)
            return Visit(context, api)

        yield made
