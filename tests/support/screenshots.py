"""`python -m tests.support.screenshots FOLDER`: take a screenshot of every page in two sizes and two themes."""

import os
import sys
from pathlib import Path

from moto import mock_aws
from playwright.sync_api import Page, sync_playwright

from chalicelib.settings import LOCAL_SENDER
from infra.local.embedded import create_tables, lock_moto
from infra.local.http_server import fix_chalice_local
from tests.support.chromium import ARGUMENTS, CHROMIUM, SCHEMES, Scheme
from tests.support.gallery import Gallery
from tests.support.moto_transport import moto_transport
from tests.support.site import STAGE, Site

# By default Chromium names itself headless, and the account page shows that name.
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
SHAPES = {"phone": (390, 760), "desktop": (1280, 800)}
# The screenshots of the README: page, size and theme.
README: dict[str, tuple[str, tuple[int, int], Scheme]] = {
    "sign-in.png": ("sign_in", (720, 470), "light"),
    "consent.png": ("consent_to_more", (390, 720), "dark"),
}


def main(folder: Path) -> None:
    """Write the screenshots into `folder`, named like `consent-dark-phone.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    fix_chalice_local()
    with mock_aws(), moto_transport(), sync_playwright() as playwright:
        lock_moto()
        import boto3

        create_tables(boto3.client("dynamodb"), STAGE)
        site = Site(playground=True, email_from=LOCAL_SENDER, sign_up=True)
        site.server.keys.create()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_context(locale="en-GB", user_agent=CHROME).new_page()
        for name in Gallery(site, page).pages():
            for shape, size in SHAPES.items():
                for scheme in SCHEMES:
                    _shoot(page, folder / f"{name}-{scheme}-{shape}.png", size, scheme)
            for file, (readme_page, size, scheme) in README.items():
                if readme_page == name:
                    _shoot(page, folder / file, size, scheme)
            print(name)
        browser.close()
        site.close()


def _shoot(page: Page, file: Path, size: tuple[int, int], scheme: Scheme) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme=scheme)
    page.screenshot(path=file, full_page=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
