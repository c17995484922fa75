/**
 * What a test puts between client and terminator: a socket whose frames it sees, and a wire that it can cut.
 */

import { createServer, connect, type Socket } from "node:net";
import type { TestContext } from "node:test";

import WebSocket from "ws";

import type { SocketClass } from "../../src/index.js";

/** What a client says, or hears. */
export interface Frame {
  /** Which socket it was, from 0. */
  socket: number;
  type: string;
  id?: string;
  token?: string;
  payload?: unknown;
  auth?: { resume: string };
  reason?: string;
}

/** A class of sockets that tells what goes through them. */
export class Tap {
  /** How many there were. */
  sockets = 0;
  readonly sent: Frame[] = [];
  readonly heard: Frame[] = [];
  readonly WebSocket: SocketClass;
  /** What is sent in place of each text. */
  rewrite = (text: string): string => text;

  constructor() {
    const tap = this;
    this.WebSocket = class extends WebSocket {
      readonly #number = tap.sockets++;

      constructor(url: string | URL, protocols?: string | string[]) {
        super(url, protocols);
        this.on("message", (data) => tap.#note(tap.heard, this.#number, String(data as Buffer)));
      }

      override send(data: string): void {
        tap.#note(tap.sent, this.#number, data);
        super.send(tap.rewrite(data));
      }
    };
  }

  /** What was sent of the application's. */
  get asked(): Frame[] {
    return this.sent.filter(({ type }) => !type.startsWith("auth."));
  }

  /** The name of the connection that was authenticated last. */
  get connection(): string {
    const key = this.heard.filter(({ auth }) => auth).at(-1)?.auth?.resume ?? "";
    return key.slice(0, key.lastIndexOf("."));
  }

  #note(where: Frame[], socket: number, text: string): void {
    where.push({ ...(JSON.parse(text) as Frame), socket });
  }
}

/** A wire to a terminator, which can be cut, and on which what the client says can be kept. */
export class Wire {
  readonly #calls = new Set<{ near: Socket; far: Socket }>();
  #keeps = false;
  url = "";

  static async to(t: TestContext, url: string): Promise<Wire> {
    const wire = new Wire();
    const { hostname, port } = new URL(url);
    const server = createServer((near) => wire.#join(near, connect(Number(port), hostname)));
    t.after(() => {
      server.close();
      wire.cut();
    });
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    wire.url = `ws://127.0.0.1:${(server.address() as { port: number }).port}`;
    return wire;
  }

  /** What the client says from now on does not arrive. */
  keep(): void {
    this.#keeps = true;
    for (const { near, far } of this.#calls) near.unpipe(far).pause();
  }

  /** All that was kept arrives. */
  pass(): void {
    this.#keeps = false;
    for (const { near, far } of this.#calls) near.pipe(far);
  }

  /** What is connected through it is so no longer. */
  cut(): void {
    for (const { near } of this.#calls) near.destroy();
  }

  #join(near: Socket, far: Socket): void {
    const call = { near, far };
    this.#calls.add(call);
    far.pipe(near);
    if (!this.#keeps) near.pipe(far);
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      socket.on("error", () => {});
      socket.on("close", () => {
        this.#calls.delete(call);
        other.destroy();
      });
    }
  }
}
