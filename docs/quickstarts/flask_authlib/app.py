"""A web application that signs users in with Signet: Flask and Authlib, authorization code flow with PKCE."""

import secrets

from authlib.integrations.flask_client import OAuth, OAuthError
from flask import Flask, redirect, render_template_string, session, url_for


def create_app() -> Flask:
    """Return the application, configured by the environment variables that README.md lists."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY=secrets.token_hex(), SESSION_COOKIE_SAMESITE="Lax")
    app.config.from_prefixed_env()  # FLASK_SECRET_KEY, FLASK_SIGNET_CLIENT_ID and so on
    signet = OAuth(app).register("signet", client_kwargs={"scope": "openid profile", "code_challenge_method": "S256"})

    @app.get("/")
    def home():
        page = "{% if session.user %}Signed in as {{ session.user.name or session.user.sub }} <form method=post"
        page += " action=logout><button>Sign out</button></form>{% else %}<a href=login>Sign in</a>{% endif %}"
        return render_template_string(page)

    @app.get("/login")
    def login():
        return signet.authorize_redirect(url_for("callback", _external=True), claims='{"id_token": {"name": null}}')

    @app.get("/callback")
    def callback():
        try:
            token = signet.authorize_access_token()  # checks state, nonce and the ID token
        except OAuthError:
            return 'You are not signed in. <a href="login">Try again</a>', 400
        session["user"] = {**token["userinfo"], "id_token": token["id_token"]}
        return redirect(url_for("home"))

    @app.post("/logout")
    def logout():
        hint = session.pop("user", {}).get("id_token")
        return signet.logout_redirect(url_for("home", _external=True), hint, client_id=signet.client_id)

    return app
