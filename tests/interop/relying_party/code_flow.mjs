// What the programs with oauth4webapi share: the requests of the code flow. Their `party` is an object with the metadata
// of the `server`, the metadata of the client as `self`, its `authentication`, and the `options` of its requests.
import * as oauth from "oauth4webapi";

// Return the metadata of the server.
export const discover = async (url, options) => {
  const issuer = new URL(url);
  return oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, options));
};

// Return the URL of an authorization request, whose parameters are pushed if `push`.
export const authorizationUrl = async ({ server, self, authentication, options }, parameters, push) => {
  const url = new URL(server.authorization_endpoint);
  url.search = new URLSearchParams(parameters);
  if (push) {
    const response = await oauth.pushedAuthorizationRequest(server, self, authentication, parameters, options);
    const pushed = await oauth.processPushedAuthorizationResponse(server, self, response);
    url.search = new URLSearchParams({ client_id: self.client_id, request_uri: pushed.request_uri });
  }
  return url;
};

// Return the tokens for the code in `callback`.
export const redeem = async ({ server, self, authentication, options }, callback, redirectUri, verifier, expected) =>
  oauth.processAuthorizationCodeResponse(
    server,
    self,
    await oauth.authorizationCodeGrantRequest(server, self, authentication, callback, redirectUri, verifier, options),
    expected,
  );

// Return the tokens for a refresh token.
export const refresh = async ({ server, self, authentication, options }, token) =>
  oauth.processRefreshTokenResponse(
    server,
    self,
    await oauth.refreshTokenGrantRequest(server, self, authentication, token, options),
  );

// Return the UserInfo of the user `sub`.
export const fetchUser = async ({ server, self, options }, sub, token) =>
  oauth.processUserInfoResponse(server, self, sub, await oauth.userInfoRequest(server, self, token, options));
