/**
 * A socket that a test holds the other end of.
 */

import { Client, type ClientOptions } from "../src/index.js";
import type { SocketLike } from "../src/client.js";

export interface Sent {
  id?: string;
  type: string;
  token?: string;
  payload?: unknown;
}

export class FakeSocket implements SocketLike {
  static all: FakeSocket[] = [];

  readyState = 0;
  readonly sent: Sent[] = [];
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: ((event: never) => void) | null = null;

  constructor(
    readonly url: string,
    readonly protocol: string,
  ) {
    FakeSocket.all.push(this);
  }

  send(data: string): void {
    this.sent.push(JSON.parse(data) as Sent);
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

  /** The server closes, or the network does. */
  end(code: number, reason = ""): void {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  /** The messages of the application, without what this client says on its own account. */
  get asked(): Sent[] {
    return this.sent.filter(({ type }) => type !== "auth.authenticate");
  }

  get authentications(): Sent[] {
    return this.sent.filter(({ type }) => type === "auth.authenticate");
  }
}

/** Lets all promises that can go on do so. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

export interface Bench {
  client: Client;
  /** How often the provider was asked. */
  asked(): number;
  /** The newest socket. */
  socket(): FakeSocket;
}

/** A client whose tokens are `t1`, `t2`, …, and whose jitter is none. */
export function bench(options: Partial<ClientOptions> = {}): Bench {
  FakeSocket.all = [];
  let asked = 0;
  const client = new Client({
    url: "wss://example.test",
    token: () => `t${++asked}`,
    WebSocket: FakeSocket,
    random: () => 1,
    ...options,
  });
  const socket = () => {
    const newest = FakeSocket.all.at(-1);
    if (!newest) throw new Error("there is no socket yet");
    return newest;
  };
  return { client, asked: () => asked, socket };
}

/** A bench that is connected. */
export async function open(options: Partial<ClientOptions> = {}): Promise<Bench> {
  const made = bench(options);
  made.client.connect();
  await settled();
  made.socket().accept();
  return made;
}

export const AUTH = { subject: "alice", expires_in: 100, refresh_in: 80, resume: "c.s" };
