// An MCP client, made with the TypeScript SDK, version 1 or 2, whose OAuth client is registered beforehand. It reads its
// task from standard input and writes to standard output, as lines of JSON: `open`, the URL for the user's browser, and
// when it has read the `url` of the redirect, the result, or the `error`.
import { createInterface } from "node:readline";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const read = async () => JSON.parse((await lines.next()).value);
const write = (message) => process.stdout.write(JSON.stringify(message) + "\n");

const task = await read();
const first = task.version === 1;
const load = async (module) => await import(first ? `@modelcontextprotocol/sdk/client/${module}.js` : "@modelcontextprotocol/client");
const { Client } = await load("index");
const { StreamableHTTPClientTransport } = await load("streamableHttp");
const { UnauthorizedError } = await load("auth");

const saved = {};
const provider = {
  redirectUrl: task.redirect_uri,
  clientMetadata: {
    client_name: "Notes client",
    redirect_uris: [task.redirect_uri],
    grant_types: ["authorization_code", "refresh_token"],
  },
  clientInformation: () => ({
    client_id: task.client_id,
    ...(task.client_secret ? { client_secret: task.client_secret } : {}),
    token_endpoint_auth_method: task.auth_method,
  }),
  state: () => (saved.state = crypto.randomUUID()),
  tokens: () => saved.tokens,
  saveTokens: (tokens) => void (saved.tokens = tokens),
  codeVerifier: () => saved.verifier,
  saveCodeVerifier: (verifier) => void (saved.verifier = verifier),
  discoveryState: () => saved.discovery,
  saveDiscoveryState: (state) => void (saved.discovery = state),
  redirectToAuthorization: (url) => write({ open: url.href }),
};
const requests = [];
const recordingFetch = (url, options) => {
  requests.push(`${options?.method ?? "GET"} ${url}`);
  return fetch(url, options);
};
const connect = async () => {
  const client = new Client({ name: "Notes client", version: "1.0.0" });
  const transport = new StreamableHTTPClientTransport(new URL(task.url), { authProvider: provider, fetch: recordingFetch });
  try {
    await client.connect(transport);
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
    const answer = new URL((await read()).url).searchParams;
    if (answer.get("state") !== saved.state) throw new Error("The state is another one.");
    await transport.finishAuth(first ? answer.get("code") : answer);
    return await connect();
  }
  return client;
};
const whoami = async (client) => (await client.callTool({ name: "whoami", arguments: {} })).content[0].text;

try {
  const client = await connect();
  const user = await whoami(client);
  const tokens = [saved.tokens];
  saved.tokens = { ...saved.tokens, access_token: "expired" };
  const userAfterRefresh = await whoami(client);
  tokens.push(saved.tokens);
  write({ user, user_after_refresh: userAfterRefresh, tokens, requests });
} catch (error) {
  write({ error: `${error.constructor.name}: ${error.message}` });
}
process.exit(0);
