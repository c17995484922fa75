/**
 * This library as the conformance cases speak to it (../../../conformance/README.md).
 */

import { createInterface } from "node:readline";

import WebSocket from "ws";

import { Client, CountersignError, type ClientOptions, type State } from "../../src/index.js";

interface Command {
  do: string;
  ref: string;
  url: string;
  type: string;
  id?: string;
  payload?: unknown;
  timeout_ms?: number;
  idempotent?: boolean;
  last?: unknown;
  token?: string;
  fail: string;
  temporary: boolean;
  strategy?: "per-message" | "explicit";
  max_pending?: number;
  max_message_bytes?: number;
  push_ack?: boolean;
  heartbeat_ms?: number;
}

interface Asked {
  give(token: string): void;
  fail(error: Error): void;
}

const asked: Asked[] = [];
const running = new Map<string, AbortController>();
let client!: Client;

function tell(event: string, more: object = {}): void {
  process.stdout.write(`${JSON.stringify({ event, ...more })}\n`);
}

function token(): Promise<string> {
  const given = new Promise<string>((give, fail) => asked.push({ give, fail }));
  tell("token");
  return given;
}

function make({ url, strategy, max_pending, max_message_bytes, push_ack, heartbeat_ms }: Command): void {
  const options: Partial<ClientOptions> = {
    ...(strategy && { strategy }),
    ...(max_pending && { maxPending: max_pending }),
    ...(max_message_bytes && { maxMessageBytes: max_message_bytes }),
    ...(push_ack && { pushAck: push_ack }),
    ...(heartbeat_ms && { heartbeatMs: heartbeat_ms }),
  };
  client = new Client({ url, token, WebSocket, backoffMs: { least: 20, most: 200 }, ...options });
  client.on("state", tellState);
  client.on("push", ({ id, type = null, payload }) => tell("push", { id, type, payload }));
  client.on("auth", ({ subject, recovered = null, missed = null }) => tell("auth", { subject, recovered, missed }));
  client.on("auth.required", ({ reason }) => tell("auth.required", { reason }));
  client.on("error", ({ code }) => tell("trouble", { code }));
}

function tellState(state: State): void {
  if (state.name === "stopped") tell("state", { name: state.name, error: state.error.code, close_code: state.closeCode });
  else tell("state", state);
}

async function asks(command: Command): Promise<void> {
  const { ref, type, payload, id, idempotent, timeout_ms, last } = command;
  const abort = new AbortController();
  running.set(ref, abort);
  const timeout = timeout_ms === undefined ? {} : { timeoutMs: timeout_ms };
  const how = { ...(id !== undefined && { id }), ...(idempotent !== undefined && { idempotent }), ...timeout, signal: abort.signal };
  try {
    if (command.do === "request") {
      tell("result", { ref, payload: (await client.request(type, payload, how)) ?? null });
    } else if (command.do === "send") {
      await client.send(type, payload, { ...timeout, signal: abort.signal });
      tell("result", { ref });
    } else if (command.do === "forget") {
      await client.forget();
      tell("result", { ref });
    } else {
      for await (const reply of client.stream(type, payload, { ...how, isLast: (reply) => reply === last })) tell("reply", { ref, payload: reply });
      tell("end", { ref });
    }
  } catch (error) {
    if (!CountersignError.is(error)) throw error;
    const { code, temporary, retryAfterMs, details = null, effect = null } = error;
    if (code === "aborted") tell("end", { ref });
    else tell("error", { ref, code, temporary, details, effect, ...(retryAfterMs !== undefined && { retry_after_ms: retryAfterMs }) });
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line) as Command;
  if (command.do === "new") make(command);
  else if (command.do === "connect") client.connect();
  else if (command.do === "close") client.close();
  else if (command.do === "abort") running.get(command.ref)?.abort();
  else if (command.do !== "token") void asks(command);
  else if (command.token !== undefined) asked.shift()?.give(command.token);
  else asked.shift()?.fail(command.temporary ? new Error(command.fail) : new CountersignError("no_token", command.fail, false));
}
client.close();
