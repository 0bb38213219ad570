"""/account/profile: the claims about the user, of which the operator's settings say which the user may change."""

from datetime import UTC, datetime
from typing import Any

from chalicelib.http.messages import Params, Request, Response
from chalicelib.protocol import claims
from chalicelib.protocol.texts import Text
from chalicelib.server import AuthorizationServer
from chalicelib.users import profile
from chalicelib.users.account_visit import Visit, answer_form, show_page
from chalicelib.users.profile_values import offered_time_zones, read_value

NOT_CHANGED = Text("Nothing was changed. Please correct the marked fields.")


def get(server: AuthorizationServer, http: Request) -> Response:
    """Show the profile, with a form for what the user may change."""
    return show_page(server, http, _page)


def post(server: AuthorizationServer, http: Request) -> Response:
    """Change the profile."""
    return answer_form(server, http, {"change_profile": _change})


def _page(visit: Visit, status: int = 200, **values: Any) -> Response:
    server, user = visit.server, visit.signed_in.user
    entered = profile.editable(server, user)
    stored = claims.user_claims(user, claims.SHOWN_SCOPE)
    shown: dict[str, Any] = {
        "fields": entered,
        "kept_values": {name: stored[name] for name in claims.LABELS if name in stored and name not in entered},
        "seen": profile.digest(server, user),
        "time_zones": offered_time_zones() if "zoneinfo" in entered else [],
        "labels": claims.LABELS,
        "problems": {},
    }
    return visit.page("profile", status, **(shown | values))


def _change(visit: Visit, form: Params) -> Response:
    server, values, problems = visit.server, {}, {}
    today = datetime.fromtimestamp(server.now(), UTC).date()
    for name in server.settings.profile_claims:
        if name not in form:
            continue
        try:
            values[name] = read_value(name, form.raw(name) or "", today)
        except ValueError as error:
            problems[name] = str(error)
    if problems:
        # What was entered is shown again, except what no page can show.
        entered = {name: (form.raw(name) or "")[:2000] for name in server.settings.profile_claims}
        return _page(visit, 400, fields=entered, problems=problems, problem=NOT_CHANGED)
    user, seen = visit.signed_in.user, form.get("seen", at_most=64) or ""
    changed = profile.change(server, visit.http, user, values, seen)
    return visit.back("/account/profile", "profile_changed" if changed else "changed")
