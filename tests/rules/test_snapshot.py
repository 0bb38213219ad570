"""A process that is restored from a snapshot has connections, credentials and keys of its own."""

import ssl
from typing import Any

import pytest

from chalicelib.server import AuthorizationServer
from chalicelib.web import Application
from tests.support.site import Site


@pytest.fixture
def application(site: Site) -> Application:
    return Application((), (), lambda: AuthorizationServer.connect(site.settings, site.clock))


def test_restored_process_shares_no_connection_credentials_and_keys(application: Application) -> None:
    before = application.server
    assert application.server is before
    before.keys.jwks()
    application.forget()
    after = application.server
    assert after.store.account is not before.store.account
    assert after.store.dynamodb.client is not before.store.dynamodb.client
    assert after.keys is not before.keys


def test_restored_process_reads_the_credentials_of_its_own_environment(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FIRST")
    application.server.store.dynamodb.call("Scan", TableName=application.server.store.users.name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SECOND")
    application.forget()
    store = application.server.store
    signed: list[str] = []
    send = store.dynamodb.client.transport

    def transport(request: Any) -> Any:
        signed.append(request.headers["Authorization"])
        return send(request)

    monkeypatch.setattr(store.dynamodb.client, "transport", transport)
    store.dynamodb.call("Scan", TableName=store.users.name)
    assert "Credential=SECOND/" in signed[0]


def test_restored_process_mixes_new_randomness_into_openssl(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    added: list[tuple[bytes, float]] = []
    monkeypatch.setattr(ssl, "RAND_add", lambda *given: added.append(given))
    application.forget()
    application.forget()
    assert [entropy for _, entropy in added] == [32.0, 32.0]
    assert len({random for random, _ in added}) == 2
