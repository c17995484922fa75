/**
 * Countersign's client: a WebSocket on which every message can be trusted, and that outlives tokens and networks.
 *
 * ```ts
 * const client = new Client({ url: "wss://api.example.com", token: () => fetchToken() });
 * client.on("push", ({ payload }) => show(payload));
 * const order = await client.request("order", { item: 7 });
 * ```
 */

export { Client } from "./client.js";
export type { RequestOptions, SendOptions, StreamOptions } from "./request/asking.js";
export { CountersignError } from "./errors.js";
export type { LocalCode } from "./errors.js";
export type { Authenticated, ClientEvents, Push, State } from "./events.js";
export type { ClientOptions, SocketClass, SocketLike } from "./options.js";
export { isTerminal, SUBPROTOCOL } from "./protocol.js";
export type { AuthRequired, ErrorCode } from "./protocol.js";
export { RefusedHandshake } from "./connection/refusal.js";
export type { Replies } from "./request/replies.js";
export type { TokenProvider } from "./connection/tokens.js";
