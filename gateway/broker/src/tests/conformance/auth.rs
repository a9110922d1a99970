//! Extended authentication: sections 3.15 and 4.12.

use tidegate_peer::Version;
use tidegate_peer::decode::Packet;
use tidegate_peer::encode::*;

use super::bench::*;

// 5: MQTT-4.12.0-1, MQTT-3.1.4-2, MQTT-3.2.2-7
#[test]
fn an_authentication_method_that_is_not_supported_is_refused() {
    for more in [vec![], vec![prop::bytes(prop::AUTH_DATA, "data")]] {
        let mut hello = connect(Version::V5, "c").with(prop::bytes(prop::AUTH_METHOD, "X-NONE"));
        hello.properties.extend(more);
        let code = refused(Version::V5, &hello.bytes());
        assert!([Some(0x8C), Some(0x87)].contains(&code), "{code:02x?}");
    }
}

// 5: MQTT-4.12.0-6
#[test]
fn without_a_method_the_server_sends_no_auth_and_no_method() {
    let mut bench = Bench::new();
    let hello = Connect {
        user: Some(b"user".to_vec()),
        password: Some(b"password".to_vec()),
        ..connect(Version::V5, "c")
    };
    let (_, got) = bench.hello(&hello);
    let [Packet::Connack { code: 0, properties, .. }] = &got[..] else { panic!("{got:?}") };
    assert!(!properties.has(prop::AUTH_METHOD) && !properties.has(prop::AUTH_DATA));
}

// 5: MQTT-4.12.0-7, MQTT-4.12.1-1, MQTT-4.13.1-1
#[test]
fn auth_without_a_method_in_connect_is_a_protocol_error() {
    let method = prop::bytes(prop::AUTH_METHOD, "X");
    for bytes in [auth(0x18, std::slice::from_ref(&method)), auth(0x19, &[method])] {
        ends(Version::V5, &bytes, 0x82);
    }
}

// 5: MQTT-3.15.1-1, MQTT-2.1.3-1
#[test]
fn reserved_flags_of_auth_are_malformed() {
    for flags in 1..16 {
        let mut bytes = auth(0x18, &[prop::bytes(prop::AUTH_METHOD, "X")]);
        bytes[0] |= flags;
        ends(Version::V5, &bytes, 0x81);
    }
}

// 3.1.1: MQTT-4.8.0-1
#[test]
fn packet_type_15_is_reserved_in_3_1_1() {
    ends(Version::V3_1_1, &[0xF0, 0], 0x82);
}
