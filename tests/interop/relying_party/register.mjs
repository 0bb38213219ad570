// An application with openid-client that registers itself (dynamicClientRegistration) and signs a user in. It reads its
// task from standard input and writes to standard output, as lines of JSON: `open`, the URL for the user's browser, then
// the result.
import * as client from "openid-client";
import { read, signingKey, write } from "./program.mjs";

const task = await read();
const authentication = task.private_key ? client.PrivateKeyJwt(await signingKey(task)) : undefined;
const config = await client.dynamicClientRegistration(new URL(task.issuer), task.metadata, authentication, {
  initialAccessToken: task.initial_access_token,
  execute: [client.allowInsecureRequests, client.enableNonRepudiationChecks],
});
const verifier = client.randomPKCECodeVerifier();
const state = client.randomState();
const build = task.push ? client.buildAuthorizationUrlWithPAR : client.buildAuthorizationUrl;
const url = await build(config, {
  redirect_uri: task.metadata.redirect_uris[0],
  scope: "openid profile offline_access",
  code_challenge: await client.calculatePKCECodeChallenge(verifier),
  code_challenge_method: "S256",
  state,
});
write({ registered: config.clientMetadata(), open: url.href });

const answer = await read();
const tokens = await client.authorizationCodeGrant(config, new URL(answer.url), {
  pkceCodeVerifier: verifier,
  expectedState: state,
  idTokenExpected: true,
});
const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token);
write({ claims: tokens.claims(), refreshed: refreshed.claims() });
