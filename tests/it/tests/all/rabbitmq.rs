//! RabbitMQ upstream, by its MQTT plugin: 3.1.1, and an implementation that shares nothing with the
//! brokers of the other tests.

use tidegate_rig::consumer::Consumer;
use tidegate_rig::mqtt::Version;
use tidegate_rig::rabbitmq::{RabbitMq, is_installed};

use crate::packed::{acknowledged, finish, publishers, unpack};
use crate::setup::{beside_others, config, gateway};

#[test]
fn rabbitmq_gets_each_record_once_and_in_order_over_a_kill_of_the_gateway() {
    let _machine = beside_others();
    if !is_installed() {
        return;
    }
    let server = RabbitMq::start().unwrap();
    let unpack = unpack("application/x-ndjson", None);
    let consumer = Consumer::start_unpacking(server.address(), Version::V311, unpack).unwrap();
    let text = config(server.address(), "") + "mqtt_version = \"3.1.1\"\n";
    let mut gateway = gateway(&text.replace("ack_timeout = \"2s\"", "ack_timeout = \"20s\""));
    let publishers = publishers(&gateway);
    acknowledged(&gateway, &publishers, 1, 2);
    gateway.kill().unwrap();
    gateway.start().unwrap();
    finish(&gateway, publishers, &consumer);
}
