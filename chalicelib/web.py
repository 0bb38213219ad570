"""The adapter between the gateways and the endpoints: routes, errors, CORS. Owns Chalice."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from threading import Lock
from typing import Any, Literal

from chalice import Chalice
from chalice import Response as ChaliceResponse

from chalicelib import audit, gateway, pages
from chalicelib.error_codes import explain
from chalicelib.errors import MethodNotAllowed, NotFound, OAuthError, ServerError, unexpected
from chalicelib.gateway import Event
from chalicelib.messages import NO_STORE, Request, Response, json_response
from chalicelib.redirect_uris import origin_is_registered
from chalicelib.schedules import Schedule
from chalicelib.server import AuthorizationServer, Endpoint
from chalicelib.settings import Settings, SettingsError

ONE_YEAR = 31536000
# What its owners import on first use.
LIBRARIES = (
    "boto3.dynamodb.conditions",
    "boto3.dynamodb.types",
    "cryptography.hazmat.primitives.ciphers.aead",
    "jinja2",
    "jwt",
    "passlib.context",
    "passlib.handlers.argon2",
)


@dataclass(frozen=True)
class Route:
    """An address: its method, its endpoint, its name in the metadata, and who may read its answers across origins.

    `cross_origin`: "any" web page, or those of the "client" that asks (the origins of its redirect URIs), or none.
    """

    method: Literal["GET", "POST"]
    path: str
    endpoint: Endpoint
    metadata: str | None = None
    cross_origin: Literal["any", "client"] | None = None


class Application:
    """All routes, and the server behind them, which is connected on first use."""

    def __init__(
        self, json_routes: Iterable[Route], page_routes: Iterable[Route], connect: Callable[[], AuthorizationServer]
    ):
        self._connect = connect
        self._lock = Lock()
        self._server: AuthorizationServer | None = None
        json_routes, page_routes = tuple(json_routes), tuple(page_routes)
        # Which table a route stands in decides how its errors look: JSON for clients, pages for people.
        self._shown = {route.path for route in page_routes}
        self.routes: dict[str, dict[str, Route]] = {}
        for route in (*json_routes, *page_routes):
            self.routes.setdefault(route.path, {})[route.method] = route

    @property
    def server(self) -> AuthorizationServer:
        """The server; connected by whoever asks first."""
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
        """Answer a gateway's event, of any kind: never raises, logs one line."""
        started = time.perf_counter()
        request = gateway.read(event)
        server: AuthorizationServer | None = None
        try:
            server = self.server
            server.store.dynamodb.consumed()
            response = self._respond(_addressed(server, request), event, request)
        except Exception as error:  # not even connected, or without an issuer
            request.error = _mistake(error)
            response = json_response(request.error.parameters(), 500)
            response.add(_security_headers(response, secure=request.base_url.startswith("https:")))
        settings = server.settings if server else Settings.to_log_with()
        calls, capacity = server.store.dynamodb.consumed() if server else (0, 0.0)
        audit.log_request(settings, request, response, time.perf_counter() - started, calls, capacity)
        return gateway.write(response, event)

    def forget(self) -> None:
        """Drop the server: connections and keys of before a snapshot are not those of after it."""
        with self._lock:
            self._server = None

    def _respond(self, server: AuthorizationServer, event: Event, request: Request) -> Response:
        methods = self.routes.get(request.path, {})
        route = methods.get(request.method)
        request.endpoint = request.path if methods else ""
        try:
            gateway.decode(event, request)
            response = route.endpoint(server, request) if route else _preflight(request, methods)
        except OAuthError as error:
            request.error = error
            response = self._error(server, request, error)
        except Exception as mistake:
            request.error = _mistake(mistake)
            response = self._error(server, request, request.error)
        response.add(_security_headers(response, secure=server.settings.secure))
        return response.add(_cross_origin(request, route, response.status)) if route else response

    def _error(self, server: AuthorizationServer, request: Request, error: OAuthError) -> Response:
        """The one place where an error becomes an answer, but for the redirects of `authorization`."""
        if request.path not in self._shown and not isinstance(error, NotFound):
            return json_response(error.parameters(), error.status, NO_STORE | error.headers)
        page = pages.page(
            "error", server.settings, explanation=explain(error.code), error=error, request_id=request.request_id
        )
        return pages.response(page, error.status).add(error.headers)


def build(
    json_routes: Iterable[Route],
    page_routes: Iterable[Route],
    connect: Callable[[], AuthorizationServer],
    schedules: Iterable[Schedule] = (),
) -> tuple[Chalice, Callable[[Event, Any], dict[str, Any]]]:
    """The Chalice application with these routes and schedules, and the Lambda handler that takes the events of any
    gateway, and those of the schedules that infra/api.yaml makes: `{"schedule": name}`.
    """
    application = Application(json_routes, page_routes, connect)
    # The root logger's handler is enough: Lambda and `chalice local` both have one, and Chalice's own would cut it off.
    app = Chalice(app_name="signet", configure_logs=False)

    def view() -> ChaliceResponse:
        answer = application.handle(app.current_request.to_original_event())
        return ChaliceResponse(
            answer["body"], {**answer["headers"], **answer["multiValueHeaders"]}, answer["statusCode"]
        )

    for path, methods in application.routes.items():
        allowed = [*methods, "OPTIONS"] if any(route.cross_origin for route in methods.values()) else [*methods]
        name = path.strip("/").replace("/", "_").replace(".", "_").replace("-", "_") or "home"
        app.route(path, methods=allowed, content_types=["*/*"], name=name)(view)

    def method_not_allowed(event: Any, get_response: Callable[[Any], ChaliceResponse]) -> ChaliceResponse:
        """Chalice answers a method that a route does not have by itself; the answer should be ours."""
        response = get_response(event)
        return view() if response.status_code == MethodNotAllowed.status else response

    app.register_middleware(method_not_allowed, "http")
    _mind_the_snapshot(application)

    jobs = {schedule.name: schedule for schedule in schedules}
    for name, schedule in jobs.items():
        app.schedule(schedule.rate, name=name)(_scheduled(application, schedule))

    def http_handler(event: Event, _context: Any) -> dict[str, Any]:
        if "requestContext" in event:
            return application.handle(event)
        jobs[event["schedule"]].run(lambda: application.server)
        return {}

    return app, http_handler


def _scheduled(application: Application, schedule: Schedule) -> Callable[[Any], None]:
    """What Chalice calls for a schedule; it is deployed under the function's name."""

    def scheduled(_event: Any) -> None:
        schedule.run(lambda: application.server)

    scheduled.__name__ = schedule.name
    return scheduled


def _mind_the_snapshot(application: Application) -> None:
    """Under SnapStart a function goes on from a snapshot that is made before the first request.

    The libraries should be in it, or each restored function would import them again. What was connected or read before
    it is dropped after it.
    """
    try:
        from snapshot_restore_py import register_after_restore, register_before_snapshot
    except ImportError:  # only Lambda's own runtimes have it
        return
    register_before_snapshot(preload)
    register_after_restore(application.forget)


def preload() -> None:
    """Import what is otherwise imported on first use."""
    for library in LIBRARIES:
        import_module(library)


def _addressed(server: AuthorizationServer, request: Request) -> AuthorizationServer:
    """The server, under the gateway's own address where no setting names an issuer. Raises SettingsError."""
    if server.issuer:
        return server
    if not request.base_url:
        raise SettingsError("SIGNET_ISSUER must be set: this gateway does not tell its address")
    return server.at(request.base_url)


def _preflight(request: Request, methods: dict[str, Route]) -> Response:
    """The answer to a method that no route has: a CORS preflight, or an error."""
    shared = next((route.cross_origin for route in methods.values() if route.cross_origin), None)
    if not methods:
        raise NotFound("There is nothing at this address.")
    if request.method != "OPTIONS" or shared is None:
        allowed = ", ".join([*methods, "OPTIONS"] if shared else methods)
        raise MethodNotAllowed("The method is not allowed here.", headers={"Allow": allowed})
    # Which client asks is not known yet: the answer itself is readable only for the origins of that client.
    return Response(204).add(
        {
            "Content-Type": "text/plain; charset=utf-8",
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Allow-Methods": ", ".join(methods),
            "Access-Control-Allow-Headers": "Authorization, Content-Type",
            "Access-Control-Max-Age": "600",
        }
    )


def _cross_origin(request: Request, route: Route, status: int) -> dict[str, str]:
    """CORS: never with credentials.

    A refusal of nobody in particular tells what everybody knows, so any page may read it: to a page that could not, an
    expired token would look like a broken network.
    """
    exposed = {"Access-Control-Expose-Headers": "WWW-Authenticate"}
    if route.cross_origin == "any":
        return {"Access-Control-Allow-Origin": "*", **exposed}
    if route.cross_origin is None:
        return {}
    origin, client = request.header("origin"), request.client
    if origin and client is None and status >= 400:
        return {"Access-Control-Allow-Origin": "*", **exposed, "Vary": "Origin"}
    if origin and client and origin_is_registered(origin, client.redirect_uris):
        return {"Access-Control-Allow-Origin": origin, **exposed, "Vary": "Origin"}
    return {"Vary": "Origin"}


def _security_headers(response: Response, *, secure: bool = False) -> dict[str, str]:
    headers = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
    if secure:
        headers["Strict-Transport-Security"] = f"max-age={ONE_YEAR}"
    if not response.values("Content-Security-Policy"):
        headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
    return headers


def _mistake(error: Exception) -> ServerError:
    """Our own fault; the message about a wrong setting is ours, and meant for the operator's log."""
    if isinstance(error, SettingsError):
        return ServerError(detail=str(error))
    return unexpected(error)
