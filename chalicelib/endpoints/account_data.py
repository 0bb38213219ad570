"""/account/data: a user downloads everything that is stored about the account, and finds the way to delete it."""

import json
from typing import Any

from chalicelib import events
from chalicelib.http.messages import NO_STORE, Params, Request, Response
from chalicelib.server import AuthorizationServer
from chalicelib.users import confirmation
from chalicelib.users.account_data import account_data
from chalicelib.users.account_visit import Visit, answer_form, show_page

FILE_NAME = "account-data.json"


def get(server: AuthorizationServer, http: Request) -> Response:
    """Show the button that downloads the data, with password or passkey unless the user has just signed in."""
    return show_page(server, http, _page)


def post(server: AuthorizationServer, http: Request) -> Response:
    """Return the file, as the answer to the form itself: at an address, it could be opened again without the form."""
    return answer_form(server, http, {"download": _download})


def _page(visit: Visit, status: int = 200, **values: Any) -> Response:
    server, signed_in = visit.server, visit.signed_in
    recent = confirmation.is_recent(server, signed_in)
    passkey = "" if recent else confirmation.passkey_options(server, signed_in, events.DATA_DOWNLOADED)
    return visit.page("data", status, password_needed=not recent, passkey=passkey, **values)


def _download(visit: Visit, form: Params) -> Response:
    server, http, user = visit.server, visit.http, visit.signed_in.user
    if confirmation.is_recent(server, visit.signed_in):
        server.store.transact(events.record(server.store, http, events.DATA_DOWNLOADED, user.sub))
    else:
        try:
            confirmed = confirmation.confirm(server, http, visit.signed_in, form, events.DATA_DOWNLOADED)
            confirmation.commit(server, confirmed)
        except confirmation.NotConfirmed as failure:
            page = _page(visit, failure.status, problem=failure.text, by_passkey=failure.by_passkey)
            return page.add(failure.headers)
        user = confirmed.user
    body = json.dumps(account_data(server, user), indent=2, ensure_ascii=False)
    headers = {"Content-Type": "application/json", "Content-Disposition": f'attachment; filename="{FILE_NAME}"'}
    return Response(body=body).add({**headers, **NO_STORE})
