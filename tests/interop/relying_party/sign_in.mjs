// A relying party with openid-client that verifies every signature (enableNonRepudiationChecks). It reads its task from
// standard input and writes to standard output, as lines of JSON: `open`, the URL for the user's browser, then the result.
import * as client from "openid-client";
import { read, signingKey, write } from "./program.mjs";

const task = await read();
const authenticate = async () => {
  if (task.client_secret) return client.ClientSecretBasic(task.client_secret);
  if (!task.private_key) return client.None();
  return client.PrivateKeyJwt(await signingKey(task));
};
const authentication = await authenticate();
const config = await client.discovery(new URL(task.issuer), task.client_id, task.metadata, authentication, {
  execute: [client.allowInsecureRequests, client.enableNonRepudiationChecks],
});
const hybrid = task.response_type === "code id_token";
if (hybrid) client.useCodeIdTokenResponseType(config);

const verifier = client.randomPKCECodeVerifier();
const [state, nonce] = [client.randomState(), client.randomNonce()];
const parameters = {
  redirect_uri: task.redirect_uri,
  scope: task.scope,
  code_challenge: await client.calculatePKCECodeChallenge(verifier),
  code_challenge_method: "S256",
  state,
  nonce,
  ...(task.response_mode ? { response_mode: task.response_mode } : {}),
};
const build = task.push ? client.buildAuthorizationUrlWithPAR : client.buildAuthorizationUrl;
write({ open: (await build(config, parameters)).href });

const answer = await read();
const current =
  answer.body === undefined
    ? new URL(answer.url)
    : new Request(answer.url, {
        method: "POST",
        body: answer.body,
        headers: { "content-type": "application/x-www-form-urlencoded" },
      });
const tokens = await client.authorizationCodeGrant(config, current, {
  pkceCodeVerifier: verifier,
  expectedState: state,
  expectedNonce: nonce,
  idTokenExpected: true,
});
const { sub } = tokens.claims();
const userinfo = await client.fetchUserInfo(config, tokens.access_token, sub);
const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token);
const confidential = Boolean(task.client_secret || task.private_key);
const active = confidential ? await client.tokenIntrospection(config, refreshed.access_token) : null;
const own = task.client_credentials ? await client.clientCredentialsGrant(config, { scope: task.client_credentials }) : null;
write({
  claims: tokens.claims(),
  userinfo,
  refreshed: refreshed.claims(),
  introspection: active,
  client_credentials: own && { token_type: own.token_type, expires_in: own.expires_in, scope: own.scope },
  logout: client.buildEndSessionUrl(config, {
    post_logout_redirect_uri: task.post_logout_redirect_uri,
    id_token_hint: refreshed.id_token,
    state,
  }).href,
  state,
});

await read(); // the user has signed out
const afterwards = confidential ? await client.tokenIntrospection(config, refreshed.access_token) : null;
await client.tokenRevocation(config, refreshed.refresh_token);
write({ afterwards });
process.exit(0);
