// What the programs of this folder share: lines of JSON on standard input and output, and the key of a client.
import { createInterface } from "node:readline";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
export const read = async () => JSON.parse((await lines.next()).value);
export const write = (message) => process.stdout.write(JSON.stringify(message) + "\n");

const KEYS = {
  RS256: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
  PS256: { name: "RSA-PSS", hash: "SHA-256" },
  ES256: { name: "ECDSA", namedCurve: "P-256" },
  EdDSA: { name: "Ed25519" },
};

// Return the private key of a task, with its kid, as the libraries sign client assertions with it.
export const signingKey = async (task) => ({
  key: await crypto.subtle.importKey("jwk", task.private_key, KEYS[task.private_key_alg], false, ["sign"]),
  kid: task.private_key.kid,
});
