/**
 * Prints what is pushed to a subject, and sends each line that is typed as a request. Build the library and start `countersign dev`,
 * then:
 *
 *     node examples/listen.mjs alice
 *
 * and push from the page of `countersign dev`, or stop that and start it again while this goes on.
 */

import { createInterface } from "node:readline";

import { Client } from "countersign-client";

const [subject = "alice", page = "http://127.0.0.1:8000"] = process.argv.slice(2);

const client = new Client({
  // The page knows where the WebSocket is; an application does.
  url: (await (await fetch(`${page}/about`)).json()).socket,
  token: fetchToken,
  // Before Node 22 there is none but that of the package `ws`.
  WebSocket: globalThis.WebSocket ?? (await import("ws")).WebSocket,
});
client.on("state", ({ name, ...more }) => console.error(name, more));
client.on("error", ({ code, message }) => console.error(code, message));
client.on("push", ({ payload }) => console.log("pushed:", JSON.stringify(payload)));
client.connect();

for await (const line of createInterface({ input: process.stdin })) {
  try {
    console.log("answered:", JSON.stringify(await client.request("echo", line)));
  } catch (error) {
    console.error("refused:", error.code, error.message);
  }
}
client.close();

/** Where a real application asks its token issuer. */
async function fetchToken(signal) {
  const body = JSON.stringify({ subject, expires_in_s: 60 });
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`${page}/token`, { method: "POST", headers, body, signal });
  if (!answer.ok) throw new Error(`no token: ${answer.status}`);
  return (await answer.json()).token;
}
