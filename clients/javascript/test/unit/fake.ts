/**
 * A socket that a test holds the other end of, and time that passes when a test says so.
 */

import assert from "node:assert/strict";
import { beforeEach, mock } from "node:test";

import { Client, CountersignError, type ClientOptions, type SocketLike } from "../../src/index.js";

/** Once for each file of tests. */
export function withManualTime(): void {
  beforeEach(() => {
    mock.timers.reset();
    mock.timers.enable({ apis: ["setTimeout", "Date"] });
  });
}

export interface Sent {
  id: string;
  type: string;
  token?: string;
  payload?: unknown;
}

export const AUTH = { subject: "alice", expires_in: 100, refresh_in: 80, resume: "c.s", idempotency: 60 };

export class FakeSocket implements SocketLike {
  static all: FakeSocket[] = [];

  readyState = 0;
  readonly sent: Sent[] = [];
  /** What the client gave up. */
  readonly cancelled: unknown[] = [];
  /** How long the client said that it waits, each time, by what it asked. */
  readonly waits: [type: string, ms: number | undefined][] = [];
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: ((event: never) => void) | null = null;

  constructor(
    readonly url: string,
    readonly protocols: string[],
  ) {
    FakeSocket.all.push(this);
  }

  send(data: string): void {
    const { timeout_ms, ...message } = JSON.parse(data) as Sent & { timeout_ms?: number };
    if ("cancel" in message) {
      this.cancelled.push(message.cancel);
      return;
    }
    this.sent.push(message);
    this.waits.push([message.type, timeout_ms]);
  }

  close(): void {
    this.readyState = 3;
  }

  /** The server lets us in. */
  accept(): void {
    this.readyState = 1;
    this.onopen?.({} as never);
  }

  /** The server says something. */
  say(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  /** It answers a message. */
  reply(id: string | undefined, payload: unknown): void {
    this.say({ type: "reply", id, payload });
  }

  /** It refuses a message. */
  refuse(id: string | undefined, code: string, rest: object = {}): void {
    this.say({ type: "error", id, error: { code, message: "", temporary: false, ...rest } });
  }

  /** It takes the last token that was shown. */
  authenticate(auth: object = AUTH): void {
    this.say({ type: "auth.ok", id: this.authentications.at(-1)?.id, auth });
  }

  /** It wants a fresh token. */
  require(reason: string): void {
    this.say({ type: "auth.required", reason, deadline_ms: 1_000, held: { inbound: 1, outbound: 0 } });
  }

  /** The server closes, or the network does. */
  end(code: number, reason = ""): void {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  /** The messages of the application, without what this client says on its own account. */
  get asked(): Sent[] {
    return this.sent.filter(({ type }) => !type.startsWith("auth."));
  }

  get authentications(): Sent[] {
    return this.sent.filter(({ type }) => type === "auth.authenticate");
  }

  /** The tokens that were shown. */
  get shown(): (string | undefined)[] {
    return this.authentications.map(({ token }) => token);
  }
}

/** Lets all promises that can go on do so. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 30; turn++) await Promise.resolve();
}

/** Lets time pass, and what follows from it happen. */
export async function pass(ms: number): Promise<void> {
  mock.timers.tick(ms);
  await settled();
}

/** The error that a promise ends with. */
export async function refusal(promise: Promise<unknown>): Promise<CountersignError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof CountersignError) return error;
    throw error;
  }
  return assert.fail("it was not refused");
}

/** What has the form of a token. */
export function jwt(number: number): string {
  return `e30.e30.${number}`;
}

/** The same, of a subject. */
export function jwtOf(sub: string, number: number, iss = "https://issuer.example"): string {
  const claims = Buffer.from(JSON.stringify({ iss, sub })).toString("base64url");
  return `e30.${claims}.${number}`;
}

export interface Bench {
  client: Client;
  /** How often the provider was asked. */
  asked(): number;
  /** The newest socket. */
  socket(): FakeSocket;
  /** The codes of the errors that concern no request. */
  errors: string[];
}

/** A client whose tokens are numbered, and which has neither jitter nor, unless asked for, a heartbeat. */
export function bench(options: Partial<ClientOptions> = {}): Bench {
  FakeSocket.all = [];
  let asked = 0;
  const { token = () => jwt(asked) } = options;
  const client = new Client({
    url: "wss://example.test",
    WebSocket: FakeSocket,
    random: () => 1,
    heartbeatMs: 0,
    ...options,
    token: (signal) => {
      asked++;
      return token(signal);
    },
  });
  const socket = () => FakeSocket.all.at(-1) ?? assert.fail("there is no socket yet");
  const errors: string[] = [];
  client.on("error", ({ code }) => errors.push(code));
  return { client, asked: () => asked, socket, errors };
}

/** A bench that is connected. */
export async function open(options: Partial<ClientOptions> = {}): Promise<Bench> {
  const made = bench(options);
  made.client.connect();
  await settled();
  made.socket().accept();
  return made;
}

/** A bench that is authenticated, too. */
export async function live(options: Partial<ClientOptions> = {}): Promise<Bench> {
  const made = await open(options);
  made.socket().authenticate();
  return made;
}

/** A provider that is told what to give. */
export class Provider {
  readonly #waiting: { give(token: string): void; fail(error: Error): void }[] = [];
  readonly signals: AbortSignal[] = [];

  readonly token = (signal: AbortSignal): Promise<string> => {
    this.signals.push(signal);
    return new Promise((give, fail) => this.#waiting.push({ give, fail }));
  };

  async give(token: string): Promise<void> {
    await settled();
    this.#next().give(token);
    await settled();
  }

  async fail(error = new Error("the issuer is away")): Promise<void> {
    await settled();
    this.#next().fail(error);
    await settled();
  }

  #next() {
    return this.#waiting.shift() ?? assert.fail("the provider was not asked");
  }
}

/** A bench that is authenticated by the first token, and whose provider is told what to give then. */
export async function liveWith(provider: Provider, options: Partial<ClientOptions> = {}): Promise<Bench> {
  const made = bench({ ...options, token: provider.token });
  made.client.connect();
  await settled();
  await provider.give(jwt(1));
  made.socket().accept();
  made.socket().authenticate();
  return made;
}
