//! What goes along with a record: its partition key.

use super::*;
use crate::key::PartitionKey;

fn header<'m>(message: &'m OutboundMessage, name: &str) -> Option<&'m str> {
    message.headers.iter().find(|(found, _)| found == name).map(|(_, value)| &**value)
}

#[test]
fn a_record_goes_up_with_the_key_of_its_stream() {
    let mut keyed = plan();
    keyed.streams[0].key = Some(PartitionKey::parse("topic/2").unwrap());
    let mut bench = Bench::new(keyed, echo());
    bench.upstream = true;
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/a", "x");
    bench.publish(conn, 2, "sensors", "y");
    bench.pass(Duration::from_secs(3));
    let keys = |stream: &str| -> Vec<Option<&str>> {
        let of = |message: &&OutboundMessage| header(message, "tg-stream") == Some(stream);
        bench.sent.iter().filter(of).map(|message| header(message, "tg-key")).collect()
    };
    assert_eq!(keys("telemetry"), [Some("a"), None]);
    assert_eq!(keys("alerts"), [None, None], "another stream has no key");
}
