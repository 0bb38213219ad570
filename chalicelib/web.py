"""The adapter between the gateways and the endpoints: routes, rendering of errors, CORS. Owns Chalice."""

import time
from collections.abc import Callable, Iterable
from importlib import import_module
from threading import Lock
from typing import Any, Literal

from chalice import Chalice
from chalice import Response as ChaliceResponse

from chalicelib import endpoints, pages
from chalicelib.authorization.response import send_response
from chalicelib.events.log import log_request
from chalicelib.http import accept, cors, gateway, tls
from chalicelib.http.gateway import Event
from chalicelib.http.messages import NO_STORE, Request, Response, json_response
from chalicelib.http.security_headers import security_headers
from chalicelib.keys import signing
from chalicelib.protocol import values
from chalicelib.protocol.errors import (
    MethodNotAllowed,
    NotFound,
    OAuthError,
    RequestEnded,
    ServerError,
    TemporarilyUnavailable,
    unexpected_error,
)
from chalicelib.protocol.values import dataclass
from chalicelib.schedules import Schedule, job_for
from chalicelib.server import AuthorizationServer, Endpoint
from chalicelib.settings import Settings, SettingsError
from chalicelib.storage.dynamodb import ReadOnlyError

# Imported on first use by the packages that own or need them.
MODULES = (
    "chalicelib.clients.key_sets",
    "chalicelib.keys.rotation",
    "chalicelib.mail.delivery",
    "chalicelib.mail.feedback",
    "chalicelib.sessions.backchannel_logout",
    "cryptography.hazmat.primitives.ciphers.aead",
    "encodings.idna",
    "fido2.webauthn",
    "jinja2",
    "jwt",
    "passlib.context",
    "passlib.handlers.argon2",
    "pyotp",
    "segno",
)
_show_error: Callable[[AuthorizationServer, Request, OAuthError], Response] = endpoints.Endpoints("error_page").show


@dataclass(frozen=True)
class Route:
    """An address: its method, its endpoint, its name in the metadata, and what other origins may do with it.

    `cross_origin`: who may read its answers: "any" web page, those of the "client" that asks (the origins of its
    redirect URIs, and its `allowed_origins`), or None. `in_popup`: whether applications open it in a popup that they
    wait for.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    endpoint: Endpoint
    metadata: str | None = None
    cross_origin: cors.Readers | None = None
    in_popup: bool = False


class Application:
    """All routes, and the server behind them, which is connected on first use."""

    def __init__(
        self, json_routes: Iterable[Route], page_routes: Iterable[Route], connect: Callable[[], AuthorizationServer]
    ):
        self._connect = connect
        self._lock = Lock()
        self._server: AuthorizationServer | None = None
        json_routes, page_routes = tuple(json_routes), tuple(page_routes)
        # Errors are JSON for clients, and pages for users.
        self._json_paths = {route.path for route in json_routes}
        self._page_paths = {route.path for route in page_routes}
        self.routes: dict[str, dict[str, Route]] = {}
        for route in (*json_routes, *page_routes):
            self.routes.setdefault(route.path, {})[route.method] = route

    @property
    def server(self) -> AuthorizationServer:
        """The server, connected on first use."""
        with self._lock:
            if self._server is None:
                self._server = self._connect()
                for methods in self.routes.values():
                    for route in methods.values():
                        self._server.endpoints[route.method, route.path] = route.endpoint
                        if route.metadata:
                            self._server.addresses[route.metadata] = route.path
            return self._server

    def handle(self, event: Event) -> dict[str, Any]:
        """Answer an event of any gateway. Never raises, and logs the request."""
        started = time.perf_counter()
        http = gateway.read(event)
        server: AuthorizationServer | None = None
        try:
            server = self.server
            server.store.dynamodb.take_counts()
            gateway.remove_base_path(event, http, pages.base(server.settings), self.routes)
            response = self._respond(_addressed(server, http), event, http)
        except Exception as error:  # no connection, or no issuer
            http.error = _server_error(error)
            response = json_response(http.error.parameters(), 500)
            response.add(security_headers(response, secure=http.base_url.startswith("https:")))
        settings = server.settings if server else Settings.for_logging()
        calls, capacity = server.store.dynamodb.take_counts() if server else (0, 0.0)
        log_request(settings, http, response, time.perf_counter() - started, calls, capacity)
        return gateway.write(response, event)

    def forget(self) -> None:
        """Drop the server: its connections, credentials and keys are not valid after a snapshot was restored."""
        tls.add_randomness()
        with self._lock:
            self._server = None

    def _respond(self, server: AuthorizationServer, event: Event, http: Request) -> Response:
        methods = self.routes.get(http.path, {})
        route = methods.get("GET" if http.method == "HEAD" else http.method)
        http.endpoint = http.path if methods else ""
        try:
            server.admit(http)
            gateway.decode(event, http)
            of_menu = None if http.path in self._json_paths else pages.answer_menu(server.settings, http)
            if of_menu or not route:
                response = of_menu or _preflight(http, methods)
            elif http.method == "HEAD":
                response = _answer_without_writes(server, http, route)
            else:
                response = route.endpoint(server, http)
        except OAuthError as error:
            http.error = error
            response = self._render_error(server, http, error)
        except Exception as error:
            http.error = _server_error(error)
            response = self._render_error(server, http, http.error)
        for headers in http.answer_headers:
            response.add(headers)
        in_popup, for_all = (route.in_popup, route.cross_origin == "any") if route else (False, False)
        response.add(security_headers(response, in_popup=in_popup, for_all=for_all, secure=server.settings.secure))
        if route:
            response.add(cors.response_headers(http, route.cross_origin, response.status))
        return _without_content(response) if http.method == "HEAD" else response

    def _render_error(self, server: AuthorizationServer, http: Request, error: OAuthError) -> Response:
        """Render an error, in the only place: a response to its recipient, JSON for a client, or a page for a user.

        RequestEnded is always a page: the recipient may have its answer already.
        """
        if http.recipient and not isinstance(error, RequestEnded):
            try:
                return send_response(server, http, http.recipient, error.parameters())
            except TemporarilyUnavailable as unsigned:  # no key to sign it with
                http.error = error = unsigned
        if http.path not in self._page_paths and not (isinstance(error, NotFound) and accept.may_show_page(http)):
            return json_response(error.parameters(), error.status, NO_STORE | error.headers)
        return _show_error(server, http, error)


def build(
    json_routes: Iterable[Route],
    page_routes: Iterable[Route],
    connect: Callable[[], AuthorizationServer],
    schedules: Iterable[Schedule] = (),
) -> tuple[Chalice, Callable[[Event, Any], dict[str, Any]]]:
    """Return the Chalice application with these routes and schedules, and the Lambda handler.

    The handler takes the events of any gateway, of the schedules in infra/aws/api.yaml (`{"schedule": name}`), and the
    others of `schedules.job_for`.
    """
    application = Application(json_routes, page_routes, connect)
    # Lambda and `chalice local` both have a handler on the root logger; Chalice's own would cut it off.
    app = Chalice(app_name="signet", configure_logs=False)

    def view() -> ChaliceResponse:
        answer = application.handle(app.current_request.to_original_event())
        return ChaliceResponse(
            answer["body"], {**answer["headers"], **answer["multiValueHeaders"]}, answer["statusCode"]
        )

    for path, methods in application.routes.items():
        name = path.strip("/").replace("/", "_").replace(".", "_").replace("-", "_") or "home"
        app.route(path, methods=_allowed(methods), content_types=["*/*"], name=name)(view)

    def method_not_allowed(event: Any, get_response: Callable[[Any], ChaliceResponse]) -> ChaliceResponse:
        """Replace Chalice's own answer to a method that a route does not have."""
        response = get_response(event)
        return view() if response.status_code == MethodNotAllowed.status else response

    app.register_middleware(method_not_allowed, "http")
    _register_snapstart_hooks(application)

    jobs = {schedule.name: schedule for schedule in schedules}
    for name, schedule in jobs.items():
        app.schedule(schedule.rate, name=name)(_scheduled(application, schedule))

    def http_handler(event: Event, _context: Any) -> dict[str, Any]:
        if "requestContext" in event:
            return application.handle(event)
        job_for(event, jobs).run(lambda: application.server)
        return {}

    return app, http_handler


def _scheduled(application: Application, schedule: Schedule) -> Callable[[Any], None]:
    """Return the function that Chalice calls for a schedule, and deploys under the function's name."""

    def scheduled(_event: Any) -> None:
        schedule.run(lambda: application.server)

    scheduled.__name__ = schedule.name
    return scheduled


def _register_snapstart_hooks(application: Application) -> None:
    """Load everything before SnapStart takes its snapshot, and drop connections and keys after it is restored."""
    try:
        from snapshot_restore_py import register_after_restore, register_before_snapshot
    except ImportError:  # only Lambda's own runtimes have it
        return
    register_before_snapshot(preload)
    register_after_restore(application.forget)


def preload() -> None:
    """Make what a snapshot may contain, and is otherwise made on first use: modules, TLS settings, parsed templates.

    Nothing that must be fresh is made here: no connection, credentials or keys, and no random value.
    """
    endpoints.load_all()
    for module in MODULES:
        import_module(module)
    values.compile_all()
    signing.preload()
    pages.preload()
    tls.context()


def _addressed(server: AuthorizationServer, http: Request) -> AuthorizationServer:
    """Return the server, under the gateway's address where no setting names an issuer. Raises SettingsError."""
    if server.issuer:
        return server
    if not http.base_url:
        raise SettingsError("SIGNET_ISSUER must be set: this gateway does not tell its address")
    return server.at(http.base_url)


def _answer_without_writes(server: AuthorizationServer, http: Request, route: Route) -> Response:
    """Answer HEAD as GET, but write nothing: no grant, no session, no code (RFC 9110 sections 9.2.1 and 9.3.2).

    Where GET would write, the response says only that there is a page. No password is checked, because that counts the
    attempts.
    """
    if http.credentials("basic") is not None:
        http.headers = {name: value for name, value in http.headers.items() if name != "authorization"}
    try:
        with server.store.dynamodb.read_only():
            return route.endpoint(server, http)
    except ReadOnlyError:
        http.events.clear()  # of what has not happened
        return Response().add({"Content-Type": "text/html; charset=utf-8", **NO_STORE})


def _without_content(response: Response) -> Response:
    """Return the response to HEAD: no body and no cookie."""
    headers = [(name, value) for name, value in response.headers if name != "Set-Cookie"]
    return Response(response.status, headers)


def _allowed(methods: dict[str, Route]) -> list[str]:
    """Return all methods that an address answers, of those that have a route."""
    head = ["HEAD"] if "GET" in methods else []
    return [*methods, *head, *(["OPTIONS"] if any(route.cross_origin for route in methods.values()) else [])]


def _preflight(http: Request, methods: dict[str, Route]) -> Response:
    """Answer a method that no route has: a CORS preflight, or an error. Raises NotFound and MethodNotAllowed."""
    if not methods:
        raise NotFound("There is nothing at this address. /.well-known/openid-configuration lists the endpoints.")
    allowed = _allowed(methods)
    if http.method != "OPTIONS" or "OPTIONS" not in allowed:
        raise MethodNotAllowed(f"Send {' or '.join(methods)} to this address.", headers={"Allow": ", ".join(allowed)})
    return Response(204).add({"Content-Type": "text/plain; charset=utf-8", **cors.preflight_headers(http, allowed)})


def _server_error(error: Exception) -> ServerError:
    """Return the ServerError for an unexpected exception. The message of a SettingsError is meant for the log."""
    return ServerError(detail=str(error)) if isinstance(error, SettingsError) else unexpected_error(error)
