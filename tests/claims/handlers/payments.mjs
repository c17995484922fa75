// Makes payments through the client library, which loses its socket again and again:
//
//   node payments.mjs LIBRARY URL PAYMENTS TOKEN…
//
// Each token is one payer. What the library sends again by itself, and when, is its own business; what the server refuses for now is
// tried again under the same id, as the library's page says. Ends with 0 when each payment has its reply.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [library, url, payments, ...tokens] = process.argv.slice(2);
const { Client } = await import(pathToFileURL(library));
const { WebSocket } = createRequire(library)("ws");

let breaks = false;
let sent = 0;
let lost = 0;

/** Breaks after every seventh message from some moment on, without a closing handshake. */
class Fragile extends WebSocket {
  send(data, ...rest) {
    super.send(data, ...rest);
    sent += 1;
    if (breaks && sent % 7 === 0) {
      lost += 1;
      setTimeout(() => this.terminate(), 3);
    }
  }
}

async function pay(client, number) {
  const id = `payment-${number}`;
  for (;;) {
    try {
      return await client.request("pay", number, { id });
    } catch (error) {
      if (!error.temporary) throw error;
      await new Promise((resolve) => setTimeout(resolve, error.retryAfterMs ?? 50));
    }
  }
}

const each = Number(payments) / tokens.length;
const options = { url, WebSocket: Fragile, backoffMs: { least: 20, most: 200 } };
const clients = tokens.map((token) => new Client({ ...options, token: () => token }));
// With the first answer a client is told that the server knows a request again. Before that, it sends none twice.
await Promise.all(clients.map((client, payer) => pay(client, payer * each)));
breaks = true;
await Promise.all(
  clients.map(async (client, payer) => {
    for (let number = 1; number < each; number += 1) await pay(client, payer * each + number);
    client.close();
  }),
);
console.log(`${payments} payments, ${sent} messages, ${lost} sockets lost`);
