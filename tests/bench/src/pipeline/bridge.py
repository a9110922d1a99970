"""A threshold the way a script does it: subscribe, look at the reading, publish to the upstream.

Arguments: the broker's port, the upstream's port.
"""

import json
import sys
import time

import paho.mqtt.client as mqtt


def client(name):
    return mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name)


def on_connect(local, _userdata, _flags, _reason, _properties):
    local.subscribe("bench/+", qos=1)


def on_message(_local, _userdata, message):
    reading = json.loads(message.payload)
    if reading["value"] > 0:
        sensor = message.topic.split("/")[1]
        alert = {
            "id": reading["id"],
            "sensor": sensor,
            "value": reading["value"],
            "limit": 0,
            "time": int(time.time() * 1000),
        }
        upstream.publish("alerts/" + sensor, json.dumps(alert, separators=(",", ":")), qos=1)


upstream = client("bridge-up")
upstream.max_inflight_messages_set(100)
upstream.connect("127.0.0.1", int(sys.argv[2]))
upstream.loop_start()
local = client("bridge-down")
local.on_connect = on_connect
local.on_message = on_message
local.connect("127.0.0.1", int(sys.argv[1]))
local.loop_forever()
