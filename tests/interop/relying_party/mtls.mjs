// A relying party with openid-client or oauth4webapi that uses mutual TLS: it authenticates by its certificate, and its
// access tokens are bound to it. It reads its task from standard input and writes to standard output, as lines of JSON:
// `open`, the URL for the user's browser, then the result. The domain for mutual TLS is at a port of this machine.
import https from "node:https";
import * as oauth from "oauth4webapi";
import * as client from "openid-client";
import { authorizationUrl, discover, fetchUser, redeem, refresh } from "./code_flow.mjs";
import { read, write } from "./program.mjs";

const task = await read();
const used = [];

// Sends what goes to the domain for mutual TLS with a certificate, everything else as usual.
const fetchWith = (certificate) => (url, options) => {
  const address = new URL(url);
  used.push(address.host + address.pathname);
  if (address.hostname !== task.domain) return fetch(url, options);
  return new Promise((resolve, reject) => {
    const request = https.request(
      {
        host: "127.0.0.1",
        port: task.port,
        servername: task.domain,
        path: address.pathname + address.search,
        method: options.method,
        headers: { ...Object.fromEntries(new Headers(options.headers)), host: task.domain },
        ca: task.ca,
        agent: false,
        ...certificate,
      },
      (answer) => {
        const parts = [];
        answer.on("data", (part) => parts.push(part));
        answer.on("end", () =>
          resolve(new Response(Buffer.concat(parts), { status: answer.statusCode, headers: answer.headers })),
        );
      },
    );
    request.on("error", reject);
    request.end(options.body?.toString());
  });
};
const own = fetchWith(task.own);
const other = fetchWith(task.other);

const withOpenidClient = async () => {
  const authentication = task.public ? client.None() : client.TlsClientAuth();
  const config = await client.discovery(
    new URL(task.issuer),
    task.client_id,
    { use_mtls_endpoint_aliases: true },
    authentication,
    { execute: [client.allowInsecureRequests], [client.customFetch]: own },
  );
  const verifier = client.randomPKCECodeVerifier();
  const parameters = {
    redirect_uri: task.redirect_uri,
    scope: task.scope,
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
  };
  const url = task.push
    ? await client.buildAuthorizationUrlWithPAR(config, parameters)
    : client.buildAuthorizationUrl(config, parameters);
  write({ open: url.href });
  const current = new URL((await read()).url);
  const tokens = await client.authorizationCodeGrant(config, current, { pkceCodeVerifier: verifier });
  const { sub } = tokens.claims();
  const userinfo = await client.fetchUserInfo(config, tokens.access_token, sub);
  const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token);
  await client.fetchUserInfo(config, refreshed.access_token, sub);
  config[client.customFetch] = other;
  const stolen = await client
    .fetchUserInfo(config, refreshed.access_token, sub)
    .then(() => "accepted", () => "refused");
  const impostor = await client
    .refreshTokenGrant(config, refreshed.refresh_token)
    .then(() => "accepted", (error) => error.error ?? error.status);
  config[client.customFetch] = own;
  let introspected = null;
  if (!task.public) {
    introspected = await client.tokenIntrospection(config, refreshed.access_token);
    await client.tokenRevocation(config, refreshed.refresh_token);
  }
  return { userinfo, stolen, impostor, introspected, tokens: [tokens.access_token, refreshed.access_token] };
};

const withOauth4webapi = async () => {
  const options = { [oauth.allowInsecureRequests]: true, [oauth.customFetch]: own };
  const server = await discover(task.issuer, options);
  const self = { client_id: task.client_id, use_mtls_endpoint_aliases: true };
  const authentication = task.public ? oauth.None() : oauth.TlsClientAuth();
  const party = { server, self, authentication, options };
  const verifier = oauth.generateRandomCodeVerifier();
  const parameters = {
    response_type: "code",
    client_id: task.client_id,
    redirect_uri: task.redirect_uri,
    scope: task.scope,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
  };
  write({ open: (await authorizationUrl(party, parameters, task.push)).href });
  const current = new URL((await read()).url);
  const callback = oauth.validateAuthResponse(server, self, current, oauth.expectNoState);
  const tokens = await redeem(party, callback, task.redirect_uri, verifier);
  const { sub } = oauth.getValidatedIdTokenClaims(tokens);
  const userinfo = await fetchUser(party, sub, tokens.access_token);
  const refreshed = await refresh(party, tokens.refresh_token);
  await fetchUser(party, sub, refreshed.access_token);
  const thief = { ...party, options: { ...options, [oauth.customFetch]: other } };
  const stolen = await fetchUser(thief, sub, refreshed.access_token).then(() => "accepted", () => "refused");
  const impostor = await refresh(thief, refreshed.refresh_token).then(() => "accepted", (error) => error.error ?? error.status);
  let introspected = null;
  if (!task.public) {
    introspected = await oauth.processIntrospectionResponse(
      server,
      self,
      await oauth.introspectionRequest(server, self, authentication, refreshed.access_token, options),
    );
    await oauth.processRevocationResponse(
      await oauth.revocationRequest(server, self, authentication, refreshed.refresh_token, options),
    );
  }
  return { userinfo, stolen, impostor, introspected, tokens: [tokens.access_token, refreshed.access_token] };
};

const result = await (task.library === "oauth4webapi" ? withOauth4webapi() : withOpenidClient());
write({ ...result, used });
process.exit(0);
