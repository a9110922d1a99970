//! Figures that functions report.

use tidegate_abi::MetricKind;

use super::*;

#[test]
fn figures_count_with_the_commit_of_their_call_and_never_for_a_call_that_fails() {
    let guest: Guest = Box::new(|_, batch, _| {
        let mut out = OutputWriter::new();
        for message in batch.iter() {
            let kind = MetricKind::Counter;
            out.push(&Operation::Metric { name: "seen", kind, value: 1.0 }).unwrap();
            if message.payload == b"again" && message.attempt == 0 {
                emit(&mut out, "secrets/not-granted", b"x");
            }
        }
        let level = batch.iter().count() as f64;
        let kind = MetricKind::Gauge;
        out.push(&Operation::Metric { name: "batch", kind, value: level }).unwrap();
        out.push(&Operation::Metric { name: "seen", kind, value: 7.0 }).unwrap();
        CallVerdict::Done(out.finish())
    });
    let mut bench = Bench::new(plan(), guest);
    let conn = bench.connect(1, "s1");
    for (id, payload) in ["a", "again", "b"].iter().enumerate() {
        bench.publish(conn, id as u16 + 1, "sensors/a", payload);
        bench.pass(Duration::from_secs(1));
    }
    let status = &bench.gateway.status(bench.now).functions[0];
    let found: Vec<(&str, &str, f64)> =
        status.metrics.iter().map(|one| (&*one.name, &*one.kind, one.value)).collect();
    assert_eq!(found, [("batch", "gauge", 1.0), ("seen", "counter", 3.0)]);
    assert_eq!((status.failures, status.metrics_dropped), (1, 3), "of another kind");
}
