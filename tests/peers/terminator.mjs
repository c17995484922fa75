// Holds the sockets: forwards each message, and writes each answer to the socket that asked.
import { WebSocketServer } from "ws";
import { channels, declare, messages, prefix, publish, tuned } from "./common.mjs";

const back = `${prefix}.return.${process.pid}`;
const { out, into } = await channels();
await declare(into, messages);
await declare(into, back);

const sockets = new Map();
let last = 0;
const options = { host: "127.0.0.1", port: 0, perMessageDeflate: false };
const server = new WebSocketServer({ ...options, handleProtocols: (names) => names.values().next().value ?? false });

server.on("connection", (socket, request) => {
  if (tuned) request.socket.setNoDelay(true);
  const id = String(++last);
  sockets.set(id, socket);
  socket.on("close", () => sockets.delete(id));
  socket.on("message", (data) => publish(out, messages, data, { replyTo: back, correlationId: id }));
});

await into.consume(back, (message) => {
  const socket = sockets.get(message.properties.correlationId);
  if (!socket) return into.ack(message);
  socket.send(tuned ? message.content : message.content.toString(), { binary: false }, () => into.ack(message));
});

server.on("listening", () => console.log(`ws://127.0.0.1:${server.address().port}`));
if (server.address()) console.log(`ws://127.0.0.1:${server.address().port}`);
process.stdin.resume().on("end", () => process.exit());
