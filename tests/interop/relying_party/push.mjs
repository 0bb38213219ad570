// A relying party with oauth4webapi that pushes its request and authenticates by private_key_jwt. It reads its task from
// standard input and writes to standard output, as lines of JSON: `open`, the URL for the user's browser, then the
// result. With `register`, it registers itself first.
import * as oauth from "oauth4webapi";
import { authorizationUrl, discover, fetchUser, refresh } from "./code_flow.mjs";
import { read, signingKey, write } from "./program.mjs";

const task = await read();
const options = { [oauth.allowInsecureRequests]: true };
const server = await discover(task.issuer, options);
const register = async () =>
  oauth.processDynamicClientRegistrationResponse(
    await oauth.dynamicClientRegistrationRequest(server, task.register, options),
  );
const client = task.register ? await register() : { client_id: task.client_id };
const authentication = oauth.PrivateKeyJwt(await signingKey(task));
const party = { server, self: client, authentication, options };

const verifier = oauth.generateRandomCodeVerifier();
const [state, nonce] = [oauth.generateRandomState(), oauth.generateRandomNonce()];
const parameters = {
  response_type: "code",
  redirect_uri: task.redirect_uri,
  scope: task.scope,
  code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
  code_challenge_method: "S256",
  state,
  nonce,
};
write({ open: (await authorizationUrl(party, parameters, true)).href });

const callback = oauth.validateAuthResponse(server, client, new URL((await read()).url), state);
const tokenResponse = await oauth.authorizationCodeGrantRequest(
  server,
  client,
  authentication,
  callback,
  task.redirect_uri,
  verifier,
  options,
);
const tokens = await oauth.processAuthorizationCodeResponse(server, client, tokenResponse, {
  expectedNonce: nonce,
  requireIdToken: true,
});
await oauth.validateApplicationLevelSignature(server, tokenResponse, options);
const claims = oauth.getValidatedIdTokenClaims(tokens);
const userinfo = await fetchUser(party, claims.sub, tokens.access_token);
const refreshed = await refresh(party, tokens.refresh_token);
const introspect = async () =>
  oauth.processIntrospectionResponse(
    server,
    client,
    await oauth.introspectionRequest(server, client, authentication, refreshed.access_token, options),
  );
const before = await introspect();
await oauth.processRevocationResponse(
  await oauth.revocationRequest(server, client, authentication, refreshed.refresh_token, options),
);
const after = await introspect();
write({
  client_id: client.client_id,
  claims,
  userinfo,
  refreshed: refreshed.access_token !== tokens.access_token,
  active: [before.active, after.active],
});
process.exit(0);
