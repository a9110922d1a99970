//! What happens to clients, as records.

use super::*;

fn audited() -> Plan {
    Plan {
        streams: vec![stream("audit", &["$SYS/broker/events/#"])],
        functions: vec![],
        uplinks: vec![],
        ..plan()
    }
}

#[test]
fn a_stream_that_takes_the_topic_keeps_what_happens_to_clients() {
    let mut bench = Bench::new(audited(), echo());
    let first = bench.connect(1, "s\\1");
    bench.subscribe(first, "sensors/#");
    let second = bench.connect(2, "s\\1");
    bench.gateway.handle_closed(bench.now, second, "cable \"A\" cut");
    bench.pass(SETTLE);
    let records = bench.stream("audit");
    let names: Vec<&str> = records.iter().map(|(topic, _, _)| &topic[19..]).collect();
    let expected =
        ["connected", "subscribed", "taken-over", "disconnected", "connected", "disconnected"];
    assert_eq!(names, expected);
    let unix_ms = bench.now.unix_ms;
    let (_, subscribed, attributes) = &records[1];
    let (head, rest) = subscribed.split_once(r#""unix_ms":"#).unwrap();
    assert_eq!(head, r#"{"v":1,"gateway":"gw","event":"subscribed","#);
    let (at, rest) = rest.split_once(',').unwrap();
    assert!(at.parse::<i64>().unwrap() <= unix_ms);
    assert_eq!(rest, r#""client":"s\\1","filter":"sensors/#","qos":1}"#);
    assert_eq!(attributes.content_type.as_deref(), Some("application/json"));
    let why = &records[5].1;
    assert!(why.contains(r#"cable \"A\" cut"#), "{why}");
}

#[test]
fn without_a_stream_or_a_subscriber_nothing_is_told() {
    let mut bench = Bench::new(Plan { streams: vec![], ..audited() }, echo());
    bench.connect(1, "s1");
    let listener = bench.connect(2, "listener");
    bench.subscribe(listener, "$SYS/broker/events/+");
    let before = bench.publishes(listener);
    bench.connect(3, "s3");
    bench.pass(SETTLE);
    assert_eq!(bench.publishes(listener), before + 1);
    assert_eq!(bench.gateway.log().end(), bench.gateway.log().durable());
}
