"""/mailbox: the mails that the local server keeps instead of sending them."""

import base64
import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chalicelib.mail.outbox import Mail, sending
from chalicelib.settings import LOCAL_SENDER
from infra.local import mailbox as local_mailbox
from infra.local.database import Database
from infra.local.embedded import lock_moto
from infra.local.mailbox import MAX_MAILS, receive
from tests.support.browser import Answer, Browser
from tests.support.site import Site

Keep = Callable[..., None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mailbox"


@pytest.fixture
def local(site_with: Callable[..., Site], folder: Path) -> Site:
    """A local server."""
    return site_with(email_from=LOCAL_SENDER, mailbox=str(folder))


def keep(folder: Path, raw: str) -> tuple[int, dict[str, str]]:
    data = base64.b64encode(raw.replace("\n", "\r\n").encode()).decode()
    return receive(folder, json.dumps({"Content": {"Raw": {"Data": data}}}).encode())


def mail(subject: str = "Hello", text: str = "Some text", to: str = "alice@example.com") -> str:
    return f"From: signet@signet.example\nTo: {to}\nSubject: {subject}\n\n{text}\n"


def get(site: Site, browsers: Callable[..., Browser], path: str, **headers: str) -> Answer:
    return browsers(site).request("GET", path, headers={**headers})


def test_mails_are_shown_newest_first_with_text_and_raw_message(
    local: Site, folder: Path, browsers: Callable[..., Browser]
) -> None:
    assert "There is no mail yet" in browsers(local).get("/mailbox").body
    link = f"{local.settings.issuer}/account/link?link=em_x"
    keep(folder, mail("First", f"Hello\n\n{link}\n\nhttps://evil.example/"))
    keep(folder, mail("Second <b>", "<script>"))
    page = browsers(local).get("/mailbox")
    assert page.status == 200
    assert page.body.index("Second &lt;b&gt;") < page.body.index("First")
    assert "alice@example.com" in page.body
    assert f'href="{link}"' in page.body
    assert 'href="https://evil.example/"' not in page.body
    assert "<script>" not in page.body
    names = re.findall(r"/mailbox/raw\?mail=([0-9a-f-]+)", page.body)
    raw = browsers(local).get("/mailbox/raw", mail=names[1])
    assert (raw.status, raw.header("content-type")) == (200, "text/plain; charset=utf-8")
    assert raw.body.startswith("From: signet@signet.example")
    assert "Subject: First" in raw.body


@pytest.mark.parametrize("path", ["/mailbox", "/mailbox/raw"])
def test_only_the_local_server_has_a_mailbox(site: Site, browsers: Callable[..., Browser], path: str) -> None:
    assert browsers(site).get(path).status == 404


@pytest.mark.parametrize(
    "name", ["", "1-00000000", "../state", "..%2Fstate", "/etc/passwd", "1-0000000g", "1-00000000\n"]
)
def test_only_files_of_the_mailbox_are_returned(
    local: Site, folder: Path, browsers: Callable[..., Browser], name: str
) -> None:
    folder.mkdir()
    (folder.parent / "state.eml").write_text("secret")
    (folder / "x.eml").write_text("secret")
    answer = browsers(local).get("/mailbox/raw", mail=name)
    assert answer.status == 404
    assert "secret" not in answer.body


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:8000", 200)),
        *(("evil.example", 404), ("127.0.0.1.evil.example:8000", 404), ("", 404)),
    ],
)
def test_page_of_a_site_whose_name_leads_here_cannot_read_the_mailbox(
    local: Site, folder: Path, host: str, status: int
) -> None:
    from chalicelib.endpoints import mailbox
    from chalicelib.http.messages import Request
    from chalicelib.protocol.errors import NotFound

    http = Request(method="GET", path="/mailbox", headers={"host": host})
    if status == 404:
        with pytest.raises(NotFound):
            mailbox.get(local.server, http)
    else:
        assert mailbox.get(local.server, http).status == 200


def test_mail_of_the_outbox_arrives_in_the_mailbox_of_the_database(
    site: Site, site_with: Callable[..., Site], tmp_path: Path, browsers: Callable[..., Browser],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    database = Database(tmp_path / "state", "test", lock_moto())
    try:
        local = site_with(
            email_from=LOCAL_SENDER,
            mailbox=str(tmp_path / "mailbox"),
            dynamodb_endpoint=f"http://127.0.0.1:{database.port}",
        )
        note = Mail("password_changed", "alice@example.com", "alice", {"username": "alice"})
        from chalicelib.mail import sender
        from chalicelib.mail.message import compose

        record = sending(local.server, note).parameters["Item"]["delivery_id"]["S"]
        from chalicelib.protocol.outgoing_mail import OutgoingMail

        kept = OutgoingMail(record, 1, 2, "alice", note.template, note.to, note.values)
        assert sender.send(local.server, kept, compose(local.server, kept)) == ("sent", "")
    finally:
        database.close()
    assert "Mail to alice@example.com: Your password was changed · Signet (see /mailbox)" in capsys.readouterr().out
    local = site_with(email_from=LOCAL_SENDER, mailbox=str(tmp_path / "mailbox"))
    assert "Your password was changed" in browsers(local).get("/mailbox").body


def test_mails_are_readable_by_their_owner_only_and_old_ones_are_deleted(folder: Path) -> None:
    for number in range(MAX_MAILS + 3):
        keep(folder, mail(f"Mail {number}"))
    files = sorted(folder.iterdir())
    assert len(files) == MAX_MAILS
    assert "Mail 3\r" in files[0].read_bytes().decode()
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"Content": {"Simple": {}}}', b'{"Content": {"Raw": {"Data": "%"}}}'], ids=repr
)
def test_call_without_a_raw_message_is_rejected(folder: Path, body: bytes) -> None:
    assert receive(folder, body)[0] == 400
    assert not folder.exists()


def test_mails_of_a_web_page_are_not_accepted(tmp_path: Path) -> None:
    import http.client

    database = Database(tmp_path / "state", "test", lock_moto())
    try:
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
            connection = http.client.HTTPConnection("127.0.0.1", database.port)
            body: Any = json.dumps({"Content": {"Raw": {"Data": base64.b64encode(mail().encode()).decode()}}})
            connection.request("POST", local_mailbox.PATH, body, headers)
            assert connection.getresponse().status == 403
            connection.close()
    finally:
        database.close()
    assert not (tmp_path / "mailbox").exists()
