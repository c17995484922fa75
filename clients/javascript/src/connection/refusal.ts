/**
 * Why a connection cannot be made, as far as the platform tells. A browser tells nothing, lest a page finds out what is in its user's
 * network; Node tells the error of its socket, and the package `ws` the answer to a handshake, too.
 */

import type { SocketLike } from "../options.js";

/** More of what a server says for people is not read. */
const MAX_TEXT = 1_024;

/** A handshake that was answered with a status (RFC 6455 §4.2.2). */
export class RefusedHandshake extends Error {
  override readonly name = "RefusedHandshake";

  constructor(
    readonly status: number,
    /** What the server said besides. */
    readonly text: string,
    /** When it may be tried again, in milliseconds from now, if the server says. */
    readonly retryAfterMs: number | undefined,
  ) {
    super(`the handshake was refused: ${status} ${text}`.trimEnd());
  }
}

/** The error that an event of a socket brings. */
export function refusalOf(event: unknown): Error | undefined {
  const { error, message } = (typeof event === "object" && event !== null ? event : {}) as { error?: unknown; message?: unknown };
  if (error instanceof Error) return error;
  return typeof message === "string" && message !== "" ? new Error(message) : undefined;
}

/** The answer of a server, as Node tells it. */
interface Answer {
  statusCode?: number;
  headers: { [name: string]: string | string[] | undefined };
  setEncoding(encoding: "utf8"): void;
  on(name: "data" | "end" | "aborted" | "error" | "close", listener: (chunk?: unknown) => void): void;
}

/** Tells of a handshake that was refused, where the socket does (that of the package `ws`). */
export function watchRefusal(socket: SocketLike, onRefused: (refused: RefusedHandshake) => void): void {
  const { on } = socket as { on?: unknown };
  if (typeof on !== "function") return;
  on.call(socket, "unexpected-response", (_: unknown, answer: Answer) => {
    let [text, isTold] = ["", false];
    const tell = () => {
      if (isTold) return;
      isTold = true;
      onRefused(new RefusedHandshake(answer.statusCode ?? 0, text.trim(), retryAfterMs(answer.headers["retry-after"])));
    };
    answer.setEncoding("utf8");
    answer.on("data", (chunk) => {
      text = (text + String(chunk)).slice(0, MAX_TEXT);
      if (text.length === MAX_TEXT) tell();
    });
    for (const end of ["end", "aborted", "error", "close"] as const) answer.on(end, tell);
  });
}

/** `Retry-After` in seconds or as a date (RFC 9110 §10.2.3). */
function retryAfterMs(value: string | string[] | undefined): number | undefined {
  if (typeof value !== "string") return undefined;
  const ms = /^\d+$/.test(value) ? Number(value) * 1_000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}

/** Whether a handshake was refused because of a limit (RFC 6585 §4, RFC 9110 §15.6.4). */
export function isBusyStatus(status: number): boolean {
  return status === 429 || status === 503;
}
