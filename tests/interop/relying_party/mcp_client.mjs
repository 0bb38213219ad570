// An MCP client, made with the TypeScript SDK, version 1 or 2. It reads its task from standard input and writes to
// standard output, as lines of JSON: `open`, the URL for the user's browser, and when it has read the `url` of the
// redirect, the result, or the `error`. With a `client_id` it is registered beforehand. Otherwise it uses its
// `client_metadata_url`, if the server accepts documents, or registers itself. With `calls`, each a tool and its
// arguments, it returns their `results`; otherwise it calls the tool `whoami`, and again with a refreshed token.
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
if (task.client_id) {
  saved.client = {
    client_id: task.client_id,
    ...(task.client_secret ? { client_secret: task.client_secret } : {}),
    token_endpoint_auth_method: task.auth_method,
  };
}
const received = [];
const provider = {
  redirectUrl: task.redirect_uri,
  clientMetadata: {
    client_name: "Notes client",
    redirect_uris: [task.redirect_uri],
    grant_types: task.grant_types ?? ["authorization_code", "refresh_token"],
    token_endpoint_auth_method: task.auth_method,
  },
  clientMetadataUrl: task.client_metadata_url,
  clientInformation: () => saved.client,
  state: () => (saved.state = crypto.randomUUID()),
  tokens: () => saved.tokens,
  saveTokens: (tokens) => void received.push((saved.tokens = tokens)),
  codeVerifier: () => saved.verifier,
  saveCodeVerifier: (verifier) => void (saved.verifier = verifier),
  discoveryState: () => saved.discovery,
  saveDiscoveryState: (state) => void (saved.discovery = state),
  redirectToAuthorization: (url) => write({ open: url.href }),
};
if (!task.client_id) provider.saveClientInformation = (client) => void (saved.client = client);
const requests = [];
const recordingFetch = (url, options) => {
  requests.push(`${options?.method ?? "GET"} ${url}`);
  return fetch(url, options);
};
const finish = async (transport, error) => {
  if (!(error instanceof UnauthorizedError)) throw error;
  const answer = new URL((await read()).url).searchParams;
  if (answer.get("state") !== saved.state) throw new Error("The state is another one.");
  await transport.finishAuth(first ? answer.get("code") : answer);
};
const connect = async () => {
  const client = new Client({ name: "Notes client", version: "1.0.0" });
  const transport = new StreamableHTTPClientTransport(new URL(task.url), { authProvider: provider, fetch: recordingFetch });
  try {
    await client.connect(transport);
  } catch (error) {
    await finish(transport, error);
    return await connect();
  }
  return { client, transport };
};
const call = async ({ client, transport }, name, toolArguments) => {
  const send = () => client.callTool({ name, arguments: toolArguments });
  const result = await send().catch(async (error) => {
    await finish(transport, error); // it needs another scope
    return await send();
  });
  return result.content[0]?.text ?? "";
};

try {
  const connection = await connect();
  if (task.calls) {
    const results = [];
    for (const [name, toolArguments] of task.calls) results.push(await call(connection, name, toolArguments));
    write({ results, tokens: received });
  } else {
    const user = await call(connection, "whoami", {});
    saved.tokens = { ...saved.tokens, access_token: "expired" };
    const userAfterRefresh = await call(connection, "whoami", {});
    write({ user, user_after_refresh: userAfterRefresh, tokens: received, requests });
  }
} catch (error) {
  write({ error: `${error.constructor.name}: ${error.message}` });
}
process.exit(0);
