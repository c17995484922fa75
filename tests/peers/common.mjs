// What both halves share: queues like Countersign's, and a channel that confirms.
import amqp from "amqplib";

export const url = process.env.PEER_AMQP_URL;
export const prefix = process.env.PEER_PREFIX;
export const tuned = process.env.PEER_TUNED === "1";
export const messages = `${prefix}.messages`;

const QUORUM = { durable: true, arguments: { "x-queue-type": "quorum" } };

// A connection to publish on and one to consume on, as the documentation of RabbitMQ advises.
export async function channels() {
  const options = tuned ? { noDelay: true } : {};
  const outgoing = await amqp.connect(url, options);
  const incoming = await amqp.connect(url, options);
  const out = await outgoing.createConfirmChannel();
  const into = await incoming.createChannel();
  await into.prefetch(tuned ? 512 : 64);
  return { out, into };
}

export const declare = (channel, queue) => channel.assertQueue(queue, QUORUM);

// Publishes, persistent, and calls back when it is confirmed.
export function publish(channel, queue, body, options, done) {
  channel.sendToQueue(queue, body, { persistent: true, ...options }, (error) => {
    if (error) throw error;
    done?.();
  });
}
