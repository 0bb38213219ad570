// An application with openid-client that registers itself (dynamicClientRegistration) and signs a user in. It reads its
// task from standard input and writes to standard output, as lines of JSON: `open`, the URL for the user's browser, then
// the result.
import { createInterface } from "node:readline";
import * as client from "openid-client";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const read = async () => JSON.parse((await lines.next()).value);
const write = (message) => process.stdout.write(JSON.stringify(message) + "\n");

const task = await read();
const config = await client.dynamicClientRegistration(new URL(task.issuer), task.metadata, undefined, {
  initialAccessToken: task.initial_access_token,
  execute: [client.allowInsecureRequests, client.enableNonRepudiationChecks],
});
const verifier = client.randomPKCECodeVerifier();
const state = client.randomState();
const url = client.buildAuthorizationUrl(config, {
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
