/**
 * The words of the subprotocol `countersign.v1.json`, as far as a client says or hears them.
 */

/** The WebSocket subprotocol (RFC 6455 §1.9). */
export const SUBPROTOCOL = "countersign.v1.json";

/** Is offered beside it, and never chosen: a server that knows it says in its first message what it takes. */
export const LIMITS_SUBPROTOCOL = "countersign.limits";

/** What a terminator that has told its limits answers with them, whatever else it does. */
export const LIMITS_REQUEST = JSON.stringify({ type: "limits" });

/** The longest `id` of a message, in bytes. */
export const MAX_ID_BYTES = 128;

/** The longest that a message may say its sender waits: a day. */
export const MAX_TIMEOUT_MS = 24 * 60 * 60 * 1_000;

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
  | "deadline_exceeded"
  | "cancelled"
  | "too_large"
  | "busy"
  | "internal"
  /** The application's own. */
  | `app.${string}`
  | (string & {});

/** A refusal, as it crosses the socket. */
export interface ErrorBody {
  code: ErrorCode;
  message: string;
  temporary: boolean;
  retry_after_ms?: number;
  /** What the application says besides. */
  details?: unknown;
  /** Whether the message has not reached the application by this attempt (`none`), or may have (`unknown`). */
  effect?: "none" | "unknown" | (string & {});
}

/** What the connection's authentication has become. Seconds from now, never a clock time. */
export interface AuthBody {
  subject: string;
  expires_in: number;
  refresh_in: number;
  resume?: string;
  /** For how many seconds a message is remembered by its `id`, so that it has its effect once; if it is. */
  idempotency?: number;
  /** Where a `resume` key was shown: whether all that was pushed since that connection was lost comes now. */
  recovered?: boolean;
  /** How many pushes are known not to come. */
  missed?: number;
}

/** A fresh token is wanted, and what is held waits for it. */
export interface AuthRequired {
  reason: "missing" | "expiring" | "expired" | "revoked" | (string & {});
  deadline_ms: number;
  held: { inbound: number; outbound: number };
}

/** A message from client to server. */
export interface ClientMessage {
  /** None, if no answer is wanted. */
  id?: string | undefined;
  type: string;
  token?: string | undefined;
  /** How long its sender waits, from its receipt on. */
  timeout_ms?: number | undefined;
  /** JSON. */
  payload?: string | undefined;
}

/** A message from server to client. */
export type ServerMessage = {
  type: "reply" | "push" | "error" | "auth.ok" | "auth.required" | "limits" | (string & {});
  id?: string;
  payload?: unknown;
  error?: ErrorBody;
  auth?: AuthBody;
} & Partial<AuthRequired>;

/** The close codes that this client looks at (RFC 6455 §7.4, and the server's own). */
export const CLOSE = {
  /** No close frame came. */
  abnormal: 1006,
  tooBig: 1009,
  internal: 1011,
  overload: 1013,
  slowReader: 4410,
  rateLimited: 4429,
  tokenInvalid: 4501,
  revoked: 4503,
  connectionLimit: 4505,
  identityMismatch: 4509,
  replaced: 4510,
} as const;

/** Codes from here on mean that connecting again would end the same way. */
const FIRST_TERMINAL_CLOSE = 4500;
const LAST_TERMINAL_CLOSE = 4999;

/** Whether a close code tells the client to stop rather than to come back. */
export function isTerminal(code: number): boolean {
  return code >= FIRST_TERMINAL_CLOSE && code <= LAST_TERMINAL_CLOSE;
}

/** Whether a close code tells of overload, by this client or by all: it comes back, but not at once. */
export function isOverload(code: number): boolean {
  return [CLOSE.internal, CLOSE.overload, CLOSE.slowReader, CLOSE.rateLimited].some((overload) => overload === code);
}

/** A message as it crosses the socket. Its payload is written already: one that is sent again must be the same. */
export function write(message: ClientMessage): string {
  const { payload, ...rest } = message;
  const head = JSON.stringify(rest);
  return payload === undefined ? head : `${head.slice(0, -1)},"payload":${payload}}`;
}

/** That a request has been given up: the server need not go on with it. */
export function writeCancel(id: string): string {
  return JSON.stringify({ cancel: id });
}

/** Pushes that have come, by their ids; with an id of its own it is answered, where a server takes note of that (`push-ack`). */
export function writeAck({ id, ids }: { id?: string; ids?: string[] }): string {
  return JSON.stringify({ id, type: "push.ack", ids });
}

/** The message that a frame holds, if it holds one. */
export function parse(data: unknown): ServerMessage | undefined {
  if (typeof data !== "string") return undefined;
  let message: unknown;
  try {
    message = JSON.parse(data);
  } catch {
    return undefined;
  }
  if (!isObject(message) || typeof message.type !== "string") return undefined;
  // What timers are set by must be numbers.
  const { auth, ...rest } = message;
  return (isAuth(auth) ? { ...rest, auth } : rest) as ServerMessage;
}

function isAuth(auth: unknown): auth is AuthBody {
  return isObject(auth) && Number.isFinite(auth.expires_in) && Number.isFinite(auth.refresh_in);
}

function isObject(value: unknown): value is { [member: string]: unknown } {
  return typeof value === "object" && value !== null;
}
