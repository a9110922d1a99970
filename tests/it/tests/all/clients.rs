//! The daemon with MQTT clients that other people wrote and others use: Paho, MQTT.js, rumqttc and
//! mosquitto's, in all that they can do of both versions, on every kind of listener they know.
//!
//! The first three are driven by the same commands ([`driver`]) through the same [`scenario`].

mod driver;
mod mosquitto;

mod plant;
mod rumqttc;

mod scenario;

use driver::Process;
use scenario::Transport;

use crate::setup::beside_others;

#[test]
fn paho_does_with_the_broker_what_it_can() {
    let _machine = beside_others();
    let Some(process) = Process::python() else { return };
    scenario::run("paho", process, &Transport::ALL);
}

#[test]
fn mqtt_js_does_with_the_broker_what_it_can() {
    let _machine = beside_others();
    let Some(process) = Process::javascript() else { return };
    scenario::run("mqttjs", process, &Transport::ALL);
}

#[test]
fn rumqttc_does_with_the_broker_what_it_can() {
    let _machine = beside_others();
    // Its WebSocket is a feature of its own, which the gateway's uplink does not have either.
    scenario::run("rumqttc", rumqttc::Clients::start(), &[Transport::Tcp, Transport::Tls]);
}
