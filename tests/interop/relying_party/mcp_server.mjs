// An MCP server with one tool, made with the TypeScript SDK. It accepts the JWT access tokens of an issuer. Its argument
// is JSON: `issuer`, `url`, the address of the server, and `scope`, the scope that a token must have, if any.
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { createMcpExpressApp } from "@modelcontextprotocol/sdk/server/express.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { InvalidTokenError } from "@modelcontextprotocol/sdk/server/auth/errors.js";
import { requireBearerAuth } from "@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js";
import { getOAuthProtectedResourceMetadataUrl, mcpAuthMetadataRouter } from "@modelcontextprotocol/sdk/server/auth/router.js";
import { createRemoteJWKSet, jwtVerify } from "jose";

const { issuer, url, scope } = JSON.parse(process.argv[2]);
const scopes = scope ? [scope] : undefined;
const resource = new URL(url);
const oauthMetadata = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
const keys = createRemoteJWKSet(new URL(oauthMetadata.jwks_uri));

async function verifyAccessToken(token) {
  const options = { issuer, audience: url, typ: "at+jwt", algorithms: ["RS256"] };
  const { payload } = await jwtVerify(token, keys, options).catch((error) => {
    throw new InvalidTokenError(error.message);
  });
  return { token, clientId: payload.client_id, scopes: payload.scope.split(" "), expiresAt: payload.exp, extra: payload };
}

const app = createMcpExpressApp();
app.use(mcpAuthMetadataRouter({ oauthMetadata, resourceServerUrl: resource, scopesSupported: scopes }));
const resourceMetadataUrl = getOAuthProtectedResourceMetadataUrl(resource);
const requireToken = requireBearerAuth({ verifier: { verifyAccessToken }, requiredScopes: scopes, resourceMetadataUrl });
app.post(resource.pathname, requireToken, async (request, response) => {
  const server = new McpServer({ name: "Notes", version: "1.0.0" });
  server.registerTool("whoami", { description: "Return the user of the access token." }, ({ authInfo }) => ({
    content: [{ type: "text", text: authInfo.extra.sub }],
  }));
  const transport = new StreamableHTTPServerTransport({ enableJsonResponse: true });
  response.on("close", () => server.close());
  await server.connect(transport);
  await transport.handleRequest(request, response, request.body);
});
app.all(resource.pathname, requireToken, (_request, response) => response.sendStatus(405));
app.listen(resource.port, "127.0.0.1");
