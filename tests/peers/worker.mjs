// Validates the token of each message, and answers it: the work of Countersign's worker with its `echo` handler.
import { createSecretKey } from "node:crypto";
import jwt from "jsonwebtoken";
import { channels, declare, messages, publish, tuned } from "./common.mjs";

const secret = Buffer.from(process.env.PEER_SECRET, "hex");
const key = tuned ? createSecretKey(secret) : secret;
const rules = { algorithms: ["HS256"], issuer: process.env.PEER_ISSUER, audience: process.env.PEER_AUDIENCE };

const { out, into } = await channels();
await declare(into, messages);
await into.consume(messages, (message) => {
  const { id, token, payload } = JSON.parse(message.content.toString());
  let answer;
  try {
    jwt.verify(token, key, rules);
    answer = { type: "reply", id, payload };
  } catch (error) {
    answer = { type: "error", id, error: { code: "token_invalid", message: error.message, temporary: false } };
  }
  const { replyTo, correlationId } = message.properties;
  publish(out, replyTo, Buffer.from(JSON.stringify(answer)), { correlationId }, () => into.ack(message));
});
console.log("ready");
process.stdin.resume().on("end", () => process.exit());
