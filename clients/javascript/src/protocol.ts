/**
 * The words of the subprotocol `countersign.v1.json`, as far as a client says or hears them.
 */

/** The WebSocket subprotocol (RFC 6455 §1.9). */
export const SUBPROTOCOL = "countersign.v1.json";

/** The longest `id` of a message, in bytes. */
export const MAX_ID_BYTES = 128;

/** What the server calls the reasons of a refusal. A newer server may know more. */
export type ErrorCode =
  | "bad_request"
  | "auth_required"
  | "token_expired"
  | "token_invalid"
  | "token_revoked"
  | "identity_mismatch"
  | "forbidden"
  | "auth_unavailable"
  | "rate_limited"
  | "hold_overflow"
  | "hold_expired"
  | "duplicate"
  | "too_large"
  | "busy"
  | "internal"
  | (string & {});

/** A refusal, as it crosses the socket. */
export interface ErrorBody {
  code: ErrorCode;
  message: string;
  temporary: boolean;
  retry_after_ms?: number;
}

/** What the connection's authentication has become. Seconds from now, never a clock time. */
export interface AuthBody {
  subject: string;
  expires_in: number;
  refresh_in: number;
  resume?: string;
}

/** A fresh token is wanted, and what is held waits for it. */
export interface AuthRequired {
  reason: "missing" | "expiring" | "expired" | "revoked" | (string & {});
  deadline_ms: number;
  held: { inbound: number; outbound: number };
}

/** A message from client to server. */
export interface ClientMessage {
  id?: string;
  type: string;
  token?: string;
  payload?: unknown;
}

/** A message from server to client. */
export type ServerMessage = {
  type: "reply" | "push" | "error" | "auth.ok" | "auth.required" | (string & {});
  id?: string;
  payload?: unknown;
  error?: ErrorBody;
  auth?: AuthBody;
} & Partial<AuthRequired>;

/** Codes from here on mean that connecting again would end the same way. */
const FIRST_TERMINAL_CLOSE = 4500;
const LAST_TERMINAL_CLOSE = 4999;

/** Whether a close code tells the client to stop rather than to come back. */
export function isTerminal(code: number): boolean {
  return code >= FIRST_TERMINAL_CLOSE && code <= LAST_TERMINAL_CLOSE;
}

/** The message that a frame holds, or nothing if it holds none. */
export function parse(data: unknown): ServerMessage | undefined {
  if (typeof data !== "string") return undefined;
  try {
    const message: unknown = JSON.parse(data);
    const hasType = typeof message === "object" && message !== null && "type" in message;
    return hasType && typeof message.type === "string" ? (message as ServerMessage) : undefined;
  } catch {
    return undefined;
  }
}
