// A relying party with openid-client or oauth4webapi whose tokens are bound to a key (DPoP). With `jarm`, it asks for a
// signed response (JARM). It reads its task from standard input and writes to standard output, as lines of JSON: `open`,
// the URL for the user's browser, then the result.
import * as oauth from "oauth4webapi";
import * as client from "openid-client";
import { read, write } from "./program.mjs";

const task = await read();
const types = [];
let nonces = 0;

const withOpenidClient = async () => {
  const authentication = task.client_secret ? client.ClientSecretBasic(task.client_secret) : client.None();
  const config = await client.discovery(new URL(task.issuer), task.client_id, undefined, authentication, {
    execute: [client.allowInsecureRequests],
  });
  if (task.jarm) client.useJwtResponseMode(config);
  const keys = await client.randomDPoPKeyPair(task.alg);
  const DPoP = client.getDPoPHandle(config, keys);
  const verifier = client.randomPKCECodeVerifier();
  const parameters = {
    redirect_uri: task.redirect_uri,
    scope: task.scope,
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    ...(task.push ? {} : { dpop_jkt: await DPoP.calculateThumbprint() }),
  };
  const url = task.push
    ? await client.buildAuthorizationUrlWithPAR(config, parameters, { DPoP })
    : client.buildAuthorizationUrl(config, parameters);
  write({ open: url.href });
  const current = new URL((await read()).url);
  const tokens = await client.authorizationCodeGrant(config, current, { pkceCodeVerifier: verifier }, undefined, { DPoP });
  const { sub } = tokens.claims();
  const userinfo = await client.fetchUserInfo(config, tokens.access_token, sub, { DPoP });
  const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP });
  types.push(tokens.token_type, refreshed.token_type);
  await client.fetchUserInfo(config, refreshed.access_token, sub, { DPoP });
  const other = client.getDPoPHandle(config, await client.randomDPoPKeyPair(task.alg));
  const stolen = await client
    .fetchUserInfo(config, refreshed.access_token, sub, { DPoP: other })
    .then(() => "accepted", () => "refused");
  return { userinfo, stolen };
};

const withOauth4webapi = async () => {
  const options = { [oauth.allowInsecureRequests]: true };
  const issuer = new URL(task.issuer);
  const server = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, options));
  const self = { client_id: task.client_id };
  const authentication = task.client_secret ? oauth.ClientSecretBasic(task.client_secret) : oauth.None();
  options.DPoP = oauth.DPoP(self, await oauth.generateKeyPair(task.alg));
  const prove = async (send) => {
    try {
      return await send();
    } catch (error) {
      if (!oauth.isDPoPNonceError(error)) throw error;
      nonces += 1;
      return send();
    }
  };
  const verifier = oauth.generateRandomCodeVerifier();
  const parameters = {
    response_type: "code",
    client_id: task.client_id,
    redirect_uri: task.redirect_uri,
    scope: task.scope,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    ...(task.jarm ? { response_mode: "jwt" } : {}),
    ...(task.push ? {} : { dpop_jkt: await options.DPoP.calculateThumbprint() }),
  };
  const url = new URL(server.authorization_endpoint);
  if (task.push) {
    const pushed = await prove(async () =>
      oauth.processPushedAuthorizationResponse(
        server,
        self,
        await oauth.pushedAuthorizationRequest(server, self, authentication, parameters, options),
      ),
    );
    url.search = new URLSearchParams({ client_id: task.client_id, request_uri: pushed.request_uri });
  } else {
    url.search = new URLSearchParams(parameters);
  }
  write({ open: url.href });
  const current = new URL((await read()).url);
  const callback = task.jarm
    ? await oauth.validateJwtAuthResponse(server, self, current, oauth.expectNoState, options)
    : oauth.validateAuthResponse(server, self, current, oauth.expectNoState);
  const tokens = await prove(async () =>
    oauth.processAuthorizationCodeResponse(
      server,
      self,
      await oauth.authorizationCodeGrantRequest(
        server,
        self,
        authentication,
        callback,
        task.redirect_uri,
        verifier,
        options,
      ),
    ),
  );
  const { sub } = oauth.getValidatedIdTokenClaims(tokens);
  const fetchUser = async (token, given) =>
    oauth.processUserInfoResponse(server, self, sub, await oauth.userInfoRequest(server, self, token, given));
  const userinfo = await prove(() => fetchUser(tokens.access_token, options));
  const refreshed = await prove(async () =>
    oauth.processRefreshTokenResponse(
      server,
      self,
      await oauth.refreshTokenGrantRequest(server, self, authentication, tokens.refresh_token, options),
    ),
  );
  types.push(tokens.token_type, refreshed.token_type);
  await prove(() => fetchUser(refreshed.access_token, options));
  const other = { ...options, DPoP: oauth.DPoP(self, await oauth.generateKeyPair(task.alg)) };
  const stolen = await prove(() => fetchUser(refreshed.access_token, other)).then(() => "accepted", () => "refused");
  return { userinfo, stolen };
};

const result = await (task.library === "oauth4webapi" ? withOauth4webapi() : withOpenidClient());
write({ ...result, types, nonces });
process.exit(0);
