"""Who is online: presence from the events of connections, in Python.

Terminators and workers run with `--connection-events on` or `batched`. This is all that presence needs: an AMQP client
(`pip install pika`), a durable queue that is bound to the exchange `<namespace>.events`, and a table of the connections that
are open.

    python presence.py amqp://guest:guest@127.0.0.1/%2f countersign presence.db

It prints who is online at each change. An event may come twice, and then with the same `sequence`: the table keeps the
last one of each connection, and passes over what is not newer. An event is acknowledged after it is stored, so this may end at
any moment and start again: events wait in the queue.
"""

import json
import sqlite3
import sys

import pika

# How long a closed connection is remembered, so that an event that comes again does not open it again.
REMEMBERED_MS = 3_600_000

TABLE = """
create table if not exists connections (
    connection text primary key,
    sequence integer not null,
    subject text,
    closed_at_ms integer
)
"""

NOTE = """
insert into connections values (:connection, :sequence, :subject, :closed_at_ms)
on conflict (connection) do update
set sequence = excluded.sequence, subject = excluded.subject, closed_at_ms = excluded.closed_at_ms
where excluded.sequence > sequence
"""

FORGET = "delete from connections where closed_at_ms < ?"

ONLINE = "select distinct subject from connections where subject is not null order by subject"

# With these a connection has, or goes on having, the identity that the event names. With `expired` it may not be written to, but its
# client is still there, and about to renew it.
PRESENT = {"connection.authenticated", "connection.renewed", "connection.expired"}


def main(url, namespace, path):
    table = sqlite3.connect(path)
    table.execute(TABLE)
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    # Terminators declare the exchange in the same way, so either may come first.
    channel.exchange_declare(f"{namespace}.events", exchange_type="topic", durable=True)
    queue = f"{namespace}-presence"
    # One consumer at a time keeps the order, also when a second instance waits to take over.
    arguments = {"x-queue-type": "quorum", "x-single-active-consumer": True}
    channel.queue_declare(queue, durable=True, arguments=arguments)
    channel.queue_bind(queue, f"{namespace}.events", "connection.*")
    channel.basic_qos(prefetch_count=100)
    shown = None

    def on_event(channel, method, _properties, body):
        nonlocal shown
        told = json.loads(body)
        # With `batched` there are several, in an array.
        for event in told if isinstance(told, list) else [told]:
            note(table, event)
        online = [subject for (subject,) in table.execute(ONLINE)]
        if online != shown:
            shown = online
            print("online:", ", ".join(online), flush=True)
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume(queue, on_event)
    print("ready", flush=True)
    channel.start_consuming()


def note(table, event):
    """Stores what an event says of its connection, unless that is known, or something newer is."""
    is_closed = event["event"] == "connection.closed"
    with table:
        table.execute(
            NOTE,
            {
                "connection": event["connection"],
                "sequence": event["sequence"],
                "subject": event["identity"]["subject"] if event["event"] in PRESENT and "identity" in event else None,
                "closed_at_ms": event["at_ms"] if is_closed else None,
            },
        )
        table.execute(FORGET, [event["at_ms"] - REMEMBERED_MS])


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        pass
