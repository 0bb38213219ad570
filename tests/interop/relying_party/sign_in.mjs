// A relying party with openid-client that verifies every signature (enableNonRepudiationChecks). It reads its task from
// standard input and writes to standard output, as lines of JSON: `open`, the URL for the user's browser, then the result.
import { createInterface } from "node:readline";
import * as client from "openid-client";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const read = async () => JSON.parse((await lines.next()).value);
const write = (message) => process.stdout.write(JSON.stringify(message) + "\n");

const task = await read();
const KEYS = {
  RS256: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
  PS256: { name: "RSA-PSS", hash: "SHA-256" },
  ES256: { name: "ECDSA", namedCurve: "P-256" },
  EdDSA: { name: "Ed25519" },
};
const authenticate = async () => {
  if (task.client_secret) return client.ClientSecretBasic(task.client_secret);
  if (!task.private_key) return client.None();
  const key = await crypto.subtle.importKey("jwk", task.private_key, KEYS[task.private_key_alg], false, ["sign"]);
  return client.PrivateKeyJwt({ key, kid: task.private_key.kid });
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
