"""An application in Python, on the broker: it takes orders, answers, and tells the customer later.

Workers run with `--handler amqp`. This is all that an application needs: an AMQP client (`pip install pika`), a queue,
and a binding of that queue to the exchange `<namespace>.app` for the types of messages that it takes.

    python app.py amqp://guest:guest@127.0.0.1/%2f countersign

Start as many as there is work. A message may come twice (its worker, or an application, may have died): `message_id` is
the same each time: store it with the result, and nothing is done twice.
"""

import json
import sys

import pika


def main(url, namespace):
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    # The worker declares the exchange in the same way, so either may come first.
    channel.exchange_declare(f"{namespace}.app", exchange_type="topic", durable=True)
    # Durable, so that orders wait while no application runs. Workers say how long each may wait (`expiration`).
    queue = f"{namespace}-orders"
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
    channel.queue_bind(queue, f"{namespace}.app", "orders.#")
    # As many at a time as this one can do.
    channel.basic_qos(prefetch_count=1)
    # The broker confirms what is published.
    channel.confirm_delivery()

    def on_message(channel, method, asked, body):
        subject = asked.headers["subject"]  # Who sent it: proved by the token, which never comes here.
        try:
            answer(channel, asked, handle(asked.type, subject, json.loads(body)))
        except Refused as refused:
            answer(channel, asked, {"code": refused.code, "message": str(refused)}, kind="error")
        else:
            push(channel, namespace, subject, {"order": "ready"})
        # All that came of it is confirmed, and only now the message is done.
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume(queue, on_message)
    print("ready", flush=True)
    channel.start_consuming()


class Refused(Exception):
    """What the client is told instead of an answer: the codes are in docs/handlers.md of Countersign."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def handle(kind, subject, payload):
    if kind != "orders.create":
        raise Refused("bad_request", "there are only orders.create here")
    if not isinstance(payload, dict) or "item" not in payload:
        raise Refused("bad_request", "an order names its item")
    return {"ordered": payload["item"], "for": subject}


def answer(channel, asked, payload, kind=None):
    """Plain RPC: to `reply_to`, with the same `correlation_id`."""
    properties = pika.BasicProperties(
        content_type="application/json", correlation_id=asked.correlation_id, type=kind
    )
    channel.basic_publish("", asked.reply_to, json.dumps(payload), properties)


def push(channel, namespace, subject, payload):
    """To every connection of the subject, or held for its next one."""
    properties = pika.BasicProperties(content_type="application/json", delivery_mode=2, headers={"subject": subject})
    channel.basic_publish(namespace, "push", json.dumps(payload), properties)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        pass
