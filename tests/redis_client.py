"""Speaks with the example resp on the port in the first argument, by the redis package. Exit status: 0 all well, 77 that
is not installed."""

import sys

try:
    import redis
except ImportError:
    print("the Python package redis is not installed")
    sys.exit(77)

store = redis.Redis(port=int(sys.argv[1]), decode_responses=True, socket_timeout=10)
assert store.ping()
assert store.set("a", "1") and store.get("a") == "1"
assert store.set("b", "2", ex=100) and 0 < store.ttl("b") <= 100
assert store.delete("a") == 1 and store.get("a") is None

with store.pipeline(transaction=False) as pipeline:
    for number in range(1000):
        pipeline.set(f"key{number}", number)
    assert all(pipeline.execute())

listener = store.pubsub(ignore_subscribe_messages=True)
listener.subscribe("news", "sports")
assert listener.get_message(timeout=5) is None and listener.get_message(timeout=5) is None
assert store.publish("news", "hello") == 1
message = listener.get_message(timeout=5)
assert message["channel"] == "news" and message["data"] == "hello", message
listener.unsubscribe()

try:
    store.execute_command("LPUSH", "list", "1")
    raise AssertionError("it knows no lists")
except redis.ResponseError as error:
    assert "unknown command" in str(error), error
print("all well")
