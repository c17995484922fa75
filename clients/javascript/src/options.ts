/**
 * What an application may choose, and what holds where it chooses nothing. What cannot work is told at once, by the
 * constructor, rather than on the first lost connection.
 */

import type { TokenProvider } from "./connection/tokens.js";

/**
 * The part of a WebSocket that is used. The platform's own has it, and that of the package `ws`; their types of events
 * differ, so that none is named here.
 */
export interface SocketLike {
  readonly readyState: number;
  send(data: string): void;
  close(code?: number, reason?: string): void;
  /** Where there are WebSocket pings (in `ws`, not in a browser), they find a dead connection; `on` tells of the pongs. */
  ping?(): void;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
}

/** Makes sockets. */
export type SocketClass = new (url: string, protocols: string[]) => SocketLike;

/** How to connect. */
export interface ClientOptions {
  /** `wss://…`. Tokens do not belong in it. */
  url: string | URL;
  /** Asked for a token on every attempt to connect, and before each renewal. */
  token: TokenProvider;
  /** Whether every message carries the token, or the connection is authenticated once. Default `per-message`. */
  strategy?: "per-message" | "explicit";
  /** Where there is no global `WebSocket` (Node before 22): that of the package `ws`, for one. */
  WebSocket?: SocketClass;
  /** How many requests may wait at a time, connected or not. Default 1,000. */
  maxPending?: number;
  /** How large a message may be, its token included. Default, and at most: the terminator's `max-message-size`, or 64 KiB if it does not say. */
  maxMessageBytes?: number;
  /** How long a request waits for its answer. Default 60 s: longer than a reconnect. */
  requestTimeoutMs?: number;
  /** How long the provider may take for a token, and the server for a handshake. Default 15 s. */
  connectTimeoutMs?: number;
  /** The first and the longest wait before connecting again. Default 250 ms and 30 s. */
  backoffMs?: { least: number; most: number };
  /**
   * How many messages a second may be sent, at most; others wait their turn. Default, and at most: four fifths of the terminator's
   * `messages-per-second`, which closes the connection that sends more; 800 if the terminator does not say.
   */
  messagesPerSecond?: number;
  /**
   * Whether the server is told which pushes have come, if it wants to know: with `push-ack` on terminators, a push that was written to
   * a connection that is dead comes to the next one. Default `false`.
   */
  pushAck?: boolean;
  /**
   * Within this time a connection that is dead is given up and replaced, although nothing is sent over it; a computer that was suspended
   * checks at once. At least 1,000; 0 or `null` turns it off. Default 25 s.
   */
  heartbeatMs?: number | null;
  /** From 0 to 1, for jitter. Default `Math.random`. */
  random?: () => number;
}

/** The options, complete. */
export interface Settings {
  readonly url: string;
  readonly token: TokenProvider;
  readonly perMessage: boolean;
  readonly WebSocket: SocketClass;
  readonly maxPending: number;
  readonly maxMessageBytes: number | undefined;
  readonly requestTimeoutMs: number;
  readonly connectTimeoutMs: number;
  readonly messagesPerSecond: number | undefined;
  readonly pushAck: boolean;
  /** 0 for none. */
  readonly heartbeatMs: number;
  readonly backoffMs: { readonly least: number; readonly most: number };
  readonly random: () => number;
}

/** `setTimeout` takes no longer time than this: 2^31 - 1 ms, about 24 days. */
export const LONGEST_TIMER_MS = 2_147_483_647;

/**
 * Completes the options.
 *
 * @throws {TypeError | RangeError} with these options it can never work.
 */
export function complete(options: ClientOptions): Settings {
  const { url, token, strategy = "per-message", random = Math.random } = options;
  const { backoffMs = { least: 250, most: 30_000 } } = options;
  const WebSocket = options.WebSocket ?? (globalThis as { WebSocket?: SocketClass }).WebSocket;
  if (!WebSocket) throw new TypeError("there is no WebSocket here: pass one, as that of the package ws, in the options");
  if (typeof token !== "function") throw new TypeError("token is to be a function that gives a token");
  if (strategy !== "per-message" && strategy !== "explicit") throw new TypeError(`no strategy: ${String(strategy)}`);
  return {
    url: absolute(url),
    token,
    perMessage: strategy === "per-message",
    WebSocket,
    maxPending: atLeastOne("maxPending", options.maxPending ?? 1_000),
    maxMessageBytes: optional("maxMessageBytes", options.maxMessageBytes),
    requestTimeoutMs: timerMs("requestTimeoutMs", options.requestTimeoutMs ?? 60_000),
    connectTimeoutMs: timerMs("connectTimeoutMs", options.connectTimeoutMs ?? 15_000),
    backoffMs: {
      least: timerMs("backoffMs.least", backoffMs.least),
      most: timerMs("backoffMs.most", Math.max(backoffMs.least, backoffMs.most)),
    },
    messagesPerSecond: optional("messagesPerSecond", options.messagesPerSecond),
    pushAck: options.pushAck ?? false,
    heartbeatMs: heartbeat(options.heartbeatMs === undefined ? 25_000 : options.heartbeatMs),
    random,
  };
}

/** A time that a timer takes, the longest for longer ones. */
export function timerMs(name: string, value: number): number {
  return Math.min(atLeastOne(name, value), LONGEST_TIMER_MS);
}

/** Less time than this a slow network takes for an answer. */
const LEAST_HEARTBEAT_MS = 1_000;

function heartbeat(value: number | null): number {
  if (value === null || value === 0) return 0;
  // Written so that what is no number is refused, too.
  if (!(value >= LEAST_HEARTBEAT_MS)) throw new RangeError(`heartbeatMs is to be ${LEAST_HEARTBEAT_MS} or more, or 0 for none, not ${value}`);
  return Math.min(value, LONGEST_TIMER_MS);
}

function optional(name: string, value: number | undefined): number | undefined {
  return value === undefined ? undefined : atLeastOne(name, value);
}

function atLeastOne(name: string, value: number): number {
  // Written so that what is no number is refused, too.
  if (!(value >= 1)) throw new RangeError(`${name} is to be 1 or more, not ${value}`);
  return value;
}

/** In a page, an address may be relative to it. A forgotten one is not the page's own. */
function absolute(url: string | URL): string {
  const page = (globalThis as { location?: { href?: string } }).location?.href;
  if (!(url instanceof URL) && (typeof url !== "string" || url.trim() === "")) throw new TypeError("url is to be a WebSocket's address: wss://…");
  const { href, protocol, hash } = new URL(url, page);
  // A WebSocket has no fragment, and platforms refuse one (RFC 6455 §3).
  if (hash) throw new TypeError(`a WebSocket's address has no fragment: ${hash}`);
  const socket = { "http:": "ws:", "https:": "wss:", "ws:": "ws:", "wss:": "wss:" }[protocol];
  if (!socket) throw new TypeError(`a WebSocket's address begins with wss: or ws:, not ${protocol}`);
  return socket + href.slice(protocol.length);
}
