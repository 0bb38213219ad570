// A relying party with openid-client or oauth4webapi that signs its requests (JAR), asks for signed responses (JARM) and
// for signed introspection responses, authenticates by private_key_jwt, and binds its tokens to a key (DPoP). It reads
// its task from standard input and writes to standard output, as lines of JSON: `open`, the URL for the user's browser,
// then the result. With `push`, it pushes its requests.
import * as oauth from "oauth4webapi";
import * as client from "openid-client";
import { authorizationUrl, discover, redeem } from "./code_flow.mjs";
import { read, signingKey, write } from "./program.mjs";

const task = await read();
const key = await signingKey(task);
const metadata = { introspection_signed_response_alg: task.introspection_alg };

const withOpenidClient = async () => {
  const authentication = client.PrivateKeyJwt(key);
  const config = await client.discovery(new URL(task.issuer), task.client_id, metadata, authentication, {
    execute: [client.allowInsecureRequests],
  });
  client.useJwtResponseMode(config);
  const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair("ES256"));
  const verifier = client.randomPKCECodeVerifier();
  const [state, nonce] = [client.randomState(), client.randomNonce()];
  const parameters = {
    redirect_uri: task.redirect_uri,
    scope: task.scope,
    state,
    nonce,
    resource: task.resource,
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
  };
  let url = await client.buildAuthorizationUrlWithJAR(config, parameters, key);
  if (task.push) url = await client.buildAuthorizationUrlWithPAR(config, url.searchParams, { DPoP });
  write({ open: url.href });
  const current = new URL((await read()).url);
  const checks = { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce };
  const tokens = await client.authorizationCodeGrant(config, current, checks, { resource: task.resource }, { DPoP });
  const introspection = await client.tokenIntrospection(config, tokens.access_token);
  return { sub: tokens.claims().sub, type: tokens.token_type, introspection };
};

const withOauth4webapi = async () => {
  const options = { [oauth.allowInsecureRequests]: true };
  const server = await discover(task.issuer, options);
  const self = { client_id: task.client_id, ...metadata };
  const authentication = oauth.PrivateKeyJwt(key);
  const withProof = { ...options, DPoP: oauth.DPoP(self, await oauth.generateKeyPair("ES256")) };
  const party = { server, self, authentication, options: withProof };
  const verifier = oauth.generateRandomCodeVerifier();
  const [state, nonce] = [oauth.generateRandomState(), oauth.generateRandomNonce()];
  const parameters = new URLSearchParams({
    response_type: "code",
    response_mode: "jwt",
    redirect_uri: task.redirect_uri,
    scope: task.scope,
    state,
    nonce,
    resource: task.resource,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
  });
  const request = await oauth.issueRequestObject(server, self, parameters, key);
  const url = await authorizationUrl(party, { client_id: task.client_id, request }, task.push);
  write({ open: url.href });
  const callback = await oauth.validateJwtAuthResponse(server, self, new URL((await read()).url), state, options);
  const forResource = { ...party, options: { ...withProof, additionalParameters: { resource: task.resource } } };
  const tokens = await redeem(forResource, callback, task.redirect_uri, verifier, { expectedNonce: nonce });
  const response = await oauth.introspectionRequest(server, self, authentication, tokens.access_token, {
    ...options,
    requestJwtResponse: true,
  });
  const introspection = await oauth.processIntrospectionResponse(server, self, response);
  await oauth.validateApplicationLevelSignature(server, response, options);
  return { sub: oauth.getValidatedIdTokenClaims(tokens).sub, type: tokens.token_type, introspection };
};

write(await (task.library === "oauth4webapi" ? withOauth4webapi() : withOpenidClient()));
process.exit(0);
