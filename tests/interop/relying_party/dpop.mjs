// A relying party with openid-client or oauth4webapi whose tokens are bound to a key (DPoP). With `jarm`, it asks for a
// signed response (JARM). It reads its task from standard input and writes to standard output, as lines of JSON: `open`,
// the URL for the user's browser, then the result.
import * as oauth from "oauth4webapi";
import * as client from "openid-client";
import { authorizationUrl, discover, fetchUser, redeem, refresh } from "./code_flow.mjs";
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
  const server = await discover(task.issuer, options);
  const self = { client_id: task.client_id };
  const authentication = task.client_secret ? oauth.ClientSecretBasic(task.client_secret) : oauth.None();
  options.DPoP = oauth.DPoP(self, await oauth.generateKeyPair(task.alg));
  const party = { server, self, authentication, options };
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
  const url = await prove(() => authorizationUrl(party, parameters, task.push));
  write({ open: url.href });
  const current = new URL((await read()).url);
  const callback = task.jarm
    ? await oauth.validateJwtAuthResponse(server, self, current, oauth.expectNoState, options)
    : oauth.validateAuthResponse(server, self, current, oauth.expectNoState);
  const tokens = await prove(() => redeem(party, callback, task.redirect_uri, verifier));
  const { sub } = oauth.getValidatedIdTokenClaims(tokens);
  const userinfo = await prove(() => fetchUser(party, sub, tokens.access_token));
  const refreshed = await prove(() => refresh(party, tokens.refresh_token));
  types.push(tokens.token_type, refreshed.token_type);
  await prove(() => fetchUser(party, sub, refreshed.access_token));
  const other = { ...options, DPoP: oauth.DPoP(self, await oauth.generateKeyPair(task.alg)) };
  const thief = { ...party, options: other };
  const stolen = await prove(() => fetchUser(thief, sub, refreshed.access_token)).then(() => "accepted", () => "refused");
  return { userinfo, stolen };
};

const result = await (task.library === "oauth4webapi" ? withOauth4webapi() : withOpenidClient());
write({ ...result, types, nonces });
process.exit(0);
