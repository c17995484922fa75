// An application in JavaScript, behind a URL: it takes orders, and answers. It needs Node and nothing else.
//
//   node server.mjs 3000
//
// Workers run with `--handler http:http://127.0.0.1:3000/`. Each message is one POST, and the response is the answer. A
// message may come twice (its worker may have died): the header `Idempotency-Key` is the same each time, so an application that stores it
// with what is done does nothing twice.

import { createServer } from "node:http";

/** What was done lately, by its key. A real application keeps it where it keeps what it does. */
const done = new Map();
const MOST_KEPT = 10_000;

const server = createServer(async (request, response) => {
  try {
    const key = request.headers["idempotency-key"];
    const answer = done.get(key) ?? handle(await read(request));
    if (key) done.set(key, answer);
    if (done.size > MOST_KEPT) done.delete(done.keys().next().value);
    say(response, 200, answer);
  } catch (error) {
    if (error instanceof Refused) say(response, error.status, { code: error.code, message: error.message });
    // The client is told `internal`, and may try again.
    else say(response, 500, {});
  }
});

/** What the client is told instead of an answer: the codes are in docs/handlers.md of Countersign. */
class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { status, code });
  }
}

/** `identity` is who sent it: proved by the token, which never comes here. `claims` is what the token says besides. */
function handle({ type, payload, identity, claims }) {
  if (type !== "orders.create") throw new Refused(404, "bad_request", "there are only orders.create here");
  if (typeof payload?.item !== "string") throw new Refused(422, "bad_request", "an order names its item");
  if (claims.suspended) throw new Refused(403, "forbidden", "you may not order");
  return { ordered: payload.item, for: identity.subject };
}

async function read(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString());
}

function say(response, status, body) {
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
}

server.listen(Number(process.argv[2] ?? 3000), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
