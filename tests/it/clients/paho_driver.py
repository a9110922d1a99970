"""Paho, driven by JSON lines on standard input; what it sees goes to standard output, one JSON
object a line. The commands and events are in tests/all/clients/driver.rs, and mqttjs_driver.js
has the same."""

import json
import socket
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

clients = {}
output = threading.Lock()


def tell(client, event, **more):
    with output:
        print(json.dumps({"client": client, "event": event, **more}), flush=True)


def number(reason):
    return reason.value if hasattr(reason, "value") else int(reason)


def message_event(name, message):
    properties = getattr(message, "properties", None)
    get = lambda key: getattr(properties, key, None)
    tell(
        name,
        "message",
        topic=message.topic,
        payload=message.payload.decode(),
        qos=message.qos,
        retain=bool(message.retain),
        user=[list(pair) for pair in get("UserProperty") or []],
        expiry=get("MessageExpiryInterval"),
        identifiers=get("SubscriptionIdentifier") or [],
    )


def connect(name, command):
    v5 = command["version"] == 5
    transport = command["transport"]
    options = {} if v5 else {"clean_session": command["clean"]}
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2,
        client_id=command["id"],
        protocol=mqtt.MQTTv5 if v5 else mqtt.MQTTv311,
        transport="websockets" if transport in ("ws", "wss") else "tcp",
        reconnect_on_failure=False,
        **options,
    )
    if transport in ("ws", "wss"):
        client.ws_set_options(path="/mqtt")
    if transport in ("tls", "wss"):
        client.tls_set(ca_certs="ca.pem", certfile="client.pem", keyfile="client.key")
    will = command.get("will")
    if will:
        client.will_set(will["topic"], will["payload"], will["qos"], False)
    client.on_connect = lambda _c, _u, flags, reason, _p: tell(
        name, "connected", reason=number(reason), session=bool(flags.session_present)
    )
    client.on_message = lambda _c, _u, message: message_event(name, message)
    client.on_subscribe = lambda _c, _u, _mid, reasons, _p: tell(
        name, "subscribed", reason=number(reasons[0])
    )
    client.on_publish = lambda _c, _u, _mid, reason, _p: tell(
        name, "published", reason=number(reason)
    )
    client.on_disconnect = lambda _c, _u, _flags, _reason, _p: tell(name, "closed")
    more = {}
    if v5:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = command["expiry"]
        more = {"clean_start": command["clean"], "properties": properties}
    client.connect("localhost", command["port"], 60, **more)
    client.loop_start()
    clients[name] = client


def subscribe(client, command):
    properties = None
    if command.get("identifier"):
        properties = Properties(PacketTypes.SUBSCRIBE)
        properties.SubscriptionIdentifier = command["identifier"]
    if command["version"] == 5:
        options = mqtt.SubscribeOptions(qos=command["qos"])
        client.subscribe(command["filter"], options=options, properties=properties)
    else:
        client.subscribe(command["filter"], command["qos"])


def publish(client, command):
    properties = None
    if command["version"] == 5:
        properties = Properties(PacketTypes.PUBLISH)
        if command.get("user"):
            properties.UserProperty = [tuple(pair) for pair in command["user"]]
        if command.get("expiry"):
            properties.MessageExpiryInterval = command["expiry"]
        if command.get("alias"):
            properties.TopicAlias = command["alias"]
    retain = command.get("retain", False)
    client.publish(command["topic"], command["payload"], command["qos"], retain, properties)


def main():
    for line in sys.stdin:
        command = json.loads(line)
        name, what = command["client"], command["do"]
        if what == "connect":
            connect(name, command)
            continue
        client = clients[name]
        if what == "subscribe":
            subscribe(client, command)
        elif what == "publish":
            publish(client, command)
        elif what == "disconnect":
            client.disconnect()
        elif what == "drop":
            # The connection goes without a DISCONNECT.
            sock = client.socket()
            (getattr(sock, "_socket", None) or sock).shutdown(socket.SHUT_RDWR)


main()
