// A web application that signs users in with Signet: Express and openid-client, authorization code flow with PKCE.
import express from "express";
import session from "express-session";
import * as oidc from "openid-client";

const { ISSUER = "http://localhost:8000", CLIENT_ID, CLIENT_SECRET, PORT = "8082" } = process.env;
const { BASE_URL = `http://127.0.0.1:${PORT}`, SESSION_SECRET: secret = oidc.randomState() } = process.env;
const execute = [oidc.enableNonRepudiationChecks]; // checks the signature of ID tokens too
if (/^http:\/\/(localhost|127\.0\.0\.1):/.test(ISSUER)) execute.push(oidc.allowInsecureRequests);
const config = await oidc.discovery(new URL(ISSUER), CLIENT_ID, {}, oidc.ClientSecretBasic(CLIENT_SECRET), { execute });
const escape = (text) => String(text).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
const cookie = { sameSite: "lax", secure: BASE_URL.startsWith("https:") };
const app = express().set("trust proxy", "loopback");
app.use(session({ name: "express-quickstart", secret, cookie, resave: false, saveUninitialized: false }));
app.get("/", ({ session: { user } }, res) => {
  const out = '<form method="post" action="/logout"><button>Sign out</button></form>';
  res.send(user ? `Signed in as ${escape(user.name ?? user.sub)} ${out}` : '<a href="/login">Sign in</a>');
});
app.get("/login", async (req, res) => {
  const [state, nonce, verifier] = [oidc.randomState(), oidc.randomNonce(), oidc.randomPKCECodeVerifier()];
  req.session.checks = { expectedState: state, expectedNonce: nonce, pkceCodeVerifier: verifier };
  const code_challenge = await oidc.calculatePKCECodeChallenge(verifier);
  const request = { redirect_uri: `${BASE_URL}/callback`, scope: "openid profile", state, nonce, code_challenge };
  res.redirect(oidc.buildAuthorizationUrl(config, { ...request, code_challenge_method: "S256" }).href);
});
app.get("/callback", async (req, res) => {
  if (!req.session.checks) return res.redirect("/"); // this browser has not started to sign in
  const tokens = await oidc.authorizationCodeGrant(config, new URL(BASE_URL + req.originalUrl), req.session.checks);
  const user = await oidc.fetchUserInfo(config, tokens.access_token, tokens.claims().sub);
  req.session.regenerate(() => Object.assign(req.session, { user, id_token: tokens.id_token }) && res.redirect("/"));
});
app.post("/logout", (req, res) => {
  const query = { post_logout_redirect_uri: `${BASE_URL}/`, id_token_hint: req.session.id_token ?? "" };
  req.session.destroy((error) => res.redirect(error ? "/" : oidc.buildEndSessionUrl(config, query).href));
});
app.use((error, req, res, next) => {
  console.error("Sign-in failed:", error.message, error.error);
  res.status(400).send('You are not signed in. <a href="/login">Try again</a>');
});
app.listen(Number(PORT), "127.0.0.1", () => console.log(`Open ${BASE_URL}`));
