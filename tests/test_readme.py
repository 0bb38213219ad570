"""The README and the reference are true: the commands run, and the tables list what there is."""

import re
import subprocess
from pathlib import Path

import app
from chalicelib import settings
from infra import demo
from tests.browser import VERIFIER
from tests.site import Site

ROOT = Path(__file__).parent.parent
README = "\n".join((ROOT / name).read_text("utf-8") for name in ("README.md", "docs/reference.md"))


def section(title: str) -> str:
    """The text of one section."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def first_column(title: str) -> list[str]:
    """The first cell of each row of a section's table."""
    return re.findall(r"^\| (`.+?) \|", section(title), re.MULTILINE)


def code_names(cells: list[str]) -> set[str]:
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_the_flow_by_hand_runs_to_its_end(site: Site, tmp_path: Path) -> None:
    demo.seed(site.server.store)
    block = re.search(r"```sh\n(.*?)```", section("The flow by hand"), re.DOTALL)
    assert block
    script = "set -eu\n" + block[1].replace("ISSUER=http://127.0.0.1:8000", f"ISSUER={site.settings.issuer}")
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
    assert "\n401\n" in done.stdout.replace("}401", "}\n401")  # step 7: what was revoked opens nothing
    assert list(tmp_path.iterdir()) == []


def test_the_table_of_endpoints_is_the_table_of_routes() -> None:
    listed = set()
    for cell in first_column("Endpoints"):
        for name in code_names([cell]):
            methods, path = name.rsplit(" ", 1)
            listed |= {(method, path) for method in methods.split(", ")}
    routes = {(route.method, route.path) for route in (*app.JSON_ROUTES, *app.PAGE_ROUTES)}
    assert listed == routes - {("GET", "/style.css"), ("GET", "/script.js")}


def test_the_table_of_records_is_the_list_of_tables(site: Site) -> None:
    store = site.server.store
    tables = {name for name, value in vars(store).items() if type(value).__name__ == "Table"}
    assert code_names(first_column("Records")) == tables


def test_the_table_of_settings_is_what_the_settings_read() -> None:
    source = Path(settings.__file__).read_text("utf-8")
    read = set(re.findall(r'"(SIGNET_[A-Z_]+)"', source))
    read |= {f"SIGNET_{name.upper()}" for name in settings.LIMITS}
    assert code_names(first_column("Settings")) == read
