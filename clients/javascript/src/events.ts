/**
 * What a client tells of itself.
 */

import type { CountersignError } from "./errors.js";
import type { AuthRequired } from "./protocol.js";

/** Where a client stands. */
export type State =
  /** It was not started, or was closed. */
  | { name: "closed" }
  /** It fetches a token, or shakes hands. */
  | { name: "connecting" }
  /** Messages travel; `authenticated` once the server has said who it takes us for. */
  | { name: "open"; authenticated: boolean; subject?: string }
  /** It connects again in so many milliseconds. `cause` says more, if more is known. */
  | { name: "waiting"; retryInMs: number; because: string; cause?: CountersignError }
  /** Its page sleeps, and it with it; it connects again when that wakes. */
  | { name: "frozen" }
  /** It must not come back on its own: connecting again would end the same way. `closeCode` if the server closed. */
  | { name: "stopped"; error: CountersignError; closeCode?: number };

/** Something that a backend pushed. */
export interface Push<Payload = unknown> {
  id: string | undefined;
  /** The member `type` of the payload, if it has one: what it is about, where an application pushes several things. */
  type: string | undefined;
  payload: Payload;
}

/** Who the server takes us for, in seconds from now. */
export interface Authenticated {
  subject: string;
  /** Until the authentication expires. */
  expires_in: number;
  /** Until the client should refresh its token. It does so by then. */
  refresh_in: number;
  /**
   * After a lost connection: whether every push since then comes. If it is `false`, some may not: fetch anew what pushes
   * would have told.
   */
  recovered?: boolean;
  /** How many pushes are known not to come, because too many waited, or for too long. */
  missed?: number;
}

/** What a client tells of. */
export type ClientEvents = {
  state: State;
  push: Push;
  /** The server wants a fresh token. It is being fetched; this is for an application that shows it. */
  "auth.required": AuthRequired;
  auth: Authenticated;
  /** What concerns no request: a token that cannot be had or is not taken, an error that names no message. */
  error: CountersignError;
};
