// A relying party with oauth4webapi that pushes its request and authenticates by private_key_jwt. It reads its task from
// standard input and writes to standard output, as lines of JSON: `open`, the URL for the user's browser, then the
// result. With `register`, it registers itself first.
import * as oauth from "oauth4webapi";
import { read, signingKey, write } from "./program.mjs";

const task = await read();
const options = { [oauth.allowInsecureRequests]: true };
const issuer = new URL(task.issuer);
const server = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, options));
const register = async () =>
  oauth.processDynamicClientRegistrationResponse(
    await oauth.dynamicClientRegistrationRequest(server, task.register, options),
  );
const client = task.register ? await register() : { client_id: task.client_id };
const authentication = oauth.PrivateKeyJwt(await signingKey(task));

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
const pushed = await oauth.processPushedAuthorizationResponse(
  server,
  client,
  await oauth.pushedAuthorizationRequest(server, client, authentication, parameters, options),
);
const url = new URL(server.authorization_endpoint);
url.search = new URLSearchParams({ client_id: client.client_id, request_uri: pushed.request_uri });
write({ open: url.href });

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
const userinfo = await oauth.processUserInfoResponse(
  server,
  client,
  claims.sub,
  await oauth.userInfoRequest(server, client, tokens.access_token, options),
);
const refreshed = await oauth.processRefreshTokenResponse(
  server,
  client,
  await oauth.refreshTokenGrantRequest(server, client, authentication, tokens.refresh_token, options),
);
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
