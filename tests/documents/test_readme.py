"""The README and the reference match the code: the commands run, and the tables are complete."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import app
from chalicelib import settings
from infra.local import demo
from tests.guarantees.test_endings import ENDINGS
from tests.support.browser import VERIFIER, Browser
from tests.support.site import Site

ROOT = Path(__file__).parents[2]
README = "\n".join((ROOT / name).read_text("utf-8") for name in ("README.md", "docs/reference.md"))


def section(title: str) -> str:
    """Return the text of one section."""
    match = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert match, title
    return match[1]


def first_column(title: str) -> list[str]:
    """Return the first cell of each row of a section's table."""
    return re.findall(r"^\| (`.+?) \|", section(title), re.MULTILINE)


def code_names(cells: list[str]) -> set[str]:
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_the_flow_by_hand_runs(site: Site, tmp_path: Path) -> None:
    demo.seed(site.server.store)
    block = re.search(r"```sh\n(.*?)```", section("The flow by hand"), re.DOTALL)
    assert block
    script = "set -eu\n" + block[1].replace("ISSUER=http://localhost:8000", f"ISSUER={site.settings.issuer}")
    assert site.settings.issuer in script
    assert VERIFIER in script
    done = subprocess.run(
        ["bash", "-c", script.replace("rm cookies.txt", "cat tokens.json; rm cookies.txt")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    site.secrets.update(re.findall(r'"(?:access_token|refresh_token|id_token)":"([^"]+)"', done.stdout))
    assert done.returncode == 0, done.stderr
    assert '"email":"alice@example.com"' in done.stdout  # step 5
    assert done.stdout.count('"refresh_token":"rt_') == 2  # steps 4 and 6
    assert "\n401\n" in done.stdout.replace("}401", "}\n401")  # step 7: the revoked token is rejected
    assert list(tmp_path.iterdir()) == []


def test_tour_shows_the_account_page_while_the_application_has_access(
    playground_site: Site, browsers: Callable[..., Browser]
) -> None:
    tour = (ROOT / "README.md").read_text("utf-8").partition("## Try it")[2].partition("\n## ")[0]
    steps = ("Import photos", "Get access token", "/account in", "Call a protected", "Refresh", "Use the code again")
    places = [tour.index(step) for step in steps]
    assert places == sorted(places)

    browser = browsers(playground_site)
    page = browser.get("/playground")
    page = browser.follow(browser.get(urlsplit(page.form.action or "").path, None, **page.form.fields))
    answer = browser.submit(browser.sign_in(page), decision="allow_once")
    page = browser.get(answer.location)
    page = browser.send(page, step="token")
    assert "Photo Print" in browser.get("/account").body
    for step in ("userinfo", "refresh", "replay"):
        page = browser.send(page, step=step)
    assert "Photo Print" not in browser.get("/account").body


def test_the_table_of_endpoints_lists_every_route() -> None:
    listed = set()
    for cell in first_column("Endpoints"):
        for name in code_names([cell]):
            methods, path = name.rsplit(" ", 1)
            listed |= {(method, path) for method in methods.split(", ")}
    routes = {(route.method, route.path) for route in (*app.JSON_ROUTES, *app.PAGE_ROUTES)}
    assert listed == routes - {("GET", "/style.css"), ("GET", "/script.js")}


def test_the_table_of_records_lists_every_table(site: Site) -> None:
    store = site.server.store
    tables = {name for name, value in vars(store).items() if value in store.tables}
    assert code_names(first_column("Records")) == tables


def test_the_table_of_settings_lists_every_setting() -> None:
    source = "".join(path.read_text("utf-8") for path in Path(settings.__file__).parent.glob("*.py"))
    read = set(re.findall(r'"(SIGNET_[A-Z_]+)"', source))
    read |= {f"SIGNET_{name.upper()}" for name in settings.LIMITS}
    assert code_names(first_column("Settings")) == read


def test_the_table_of_settings_has_the_default_of_each_number() -> None:
    rows = dict(re.findall(r"^\| `(SIGNET_[A-Z_]+)` \| (.+?) \|", section("Settings"), re.MULTILINE))
    documented = {name: rows[f"SIGNET_{name.upper()}"] for name in settings.LIMITS}
    assert documented == {name: f"{getattr(settings.Settings(), name):,}" for name in settings.LIMITS}


# The endings of each row of the table "What each ending ends", by their names in the tests of endings.
ROWS = (
    {
        *("sign out", "RP-initiated logout", "sign out of one browser on the account page"),
        *("session not used", "absolute end of the session", "another user signs in in this browser"),
    },
    {"sign out all other browsers", "user sign-out", "user mfa reset"},
    {
        *("own password", "required password", "user set-password", "password reset"),
        "undone change of the address",
        *("user disable", "user disable, user enable", "user delete"),
        *("own account deleted", "own account deleted, restored"),
    },
    {
        *("remove each application", "remove all applications"),
        *("grant revoke --user --client", "grant revoke --user"),
    },
    {"client delete", "client delete, registered again", "grant revoke --client"},
    {"replay of the code", "reuse of a refresh token", "revocation"},
)
COLUMNS = ("bound", "offline", "plain", "basic", "client_credentials", "browser")


def test_the_table_of_endings_is_the_one_that_is_tested() -> None:
    table = section("When access ends").partition("| Access ends when")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ")[1:] for line in table.splitlines()[2:]]
    assert len(rows) == len(ROWS)
    for cells, names in zip(rows, ROWS, strict=True):
        documented = {column for column, cell in zip(COLUMNS, cells, strict=True) if cell != "–"}
        tested = set().union(*(ENDINGS[name].columns for name in names))
        assert documented == {each for each in COLUMNS if tested & {each, f"second {each}", f"second browser's {each}"}}
    assert set(ENDINGS) == set().union(*ROWS), "an ending is missing in docs/reference.md"


@pytest.mark.spec("RFC 6749 §3.3 c")
def test_default_scope_is_documented() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    (row,) = {line for page in pages for line in page.read_text("utf-8").splitlines() if "`--default-scope`" in line}
    assert "the scope of a request without `scope`" in row
    assert "by default all except `offline_access`" in row


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def documents() -> list[str]:
    """Return the documents of the project, without those of libraries that a quick start has installed."""
    files = (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    return sorted(str(file.relative_to(ROOT)) for file in files if not {"node_modules", ".venv"} & {*file.parts})


@pytest.mark.parametrize("name", documents())
def test_links_of_a_document_lead_to_files_and_headings(name: str) -> None:
    file = ROOT / name
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", file.read_text("utf-8"))
    for path, anchor in links:
        target = (file.parent / path).resolve() if path else file
        assert target.exists(), path
        assert not anchor or anchor in anchors(target.read_text("utf-8")), f"{path}#{anchor}"
