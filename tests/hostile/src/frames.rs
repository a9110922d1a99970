//! Guests that lie about their output, or ask for what they may not.

use tidegate_abi::{NackClass, Operation, OutputWriter, Qos};

use crate::Fate::{Fails, Handled};
use crate::guest::{Guest, QUIET, handling, returning};
use crate::{Hostile, hostile};

const MALFORMED: &str = "output is malformed";
const OUTSIDE: &str = "outside of its memory";
/// The default of `output_bytes`.
const OUTPUT_BYTES: usize = 1 << 20;

pub(crate) const SET: &[Hostile] = &[
    hostile("output-outside", "returns memory that it does not have", Fails(OUTSIDE), || {
        handling("(i64.const 0x7fffffff_00000010)")
    }),
    hostile("output-across-the-end", "returns 16 bytes, 6 of them inside", Fails(OUTSIDE), || {
        handling("(i64.const 0x0000fffa_00000010)")
    }),
    hostile("output-of-2-gib", "returns 2 GiB", Fails("its limit is 1048576"), || {
        handling("(i64.const 0x00000400_7fffffff)")
    }),
    hostile("output-of-4-gib", "returns 4 GiB", Fails("its limit is 1048576"), || {
        handling("(i64.const 0x00000400_ffffffff)")
    }),
    hostile("output-a-byte-too-long", "returns 1 MiB and a byte", Fails("its limit is"), || {
        handling("(i64.const 0x00000400_00100001)")
    }),
    hostile("output-of-nothing", "returns an address without bytes", Fails(MALFORMED), || {
        handling("(i64.const 0x00000400_00000000)")
    }),
    hostile("output-of-garbage", "returns no frame", Fails(MALFORMED), || returning(&[0x5a; 64])),
    hostile("output-over-its-input", "returns its input", Fails(MALFORMED), || {
        handling(
            "(i64.or (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32))
                (i64.extend_i32_u (local.get $len)))",
        )
    }),
    hostile("output-with-another-magic", "calls its output a batch", Fails(MALFORMED), || {
        lying(|frame| frame[..4].copy_from_slice(b"TGB1"))
    }),
    hostile("output-with-a-count-too-high", "counts 2^32 - 1 operations", Fails(MALFORMED), || {
        lying(|frame| frame[4..8].fill(0xff))
    }),
    hostile(
        "output-with-a-count-too-low",
        "counts none of its operations",
        Fails(MALFORMED),
        || lying(|frame| frame[4..8].fill(0)),
    ),
    hostile("output-with-another-length", "says it is longer", Fails(MALFORMED), || {
        lying(|frame| frame[8] += 8)
    }),
    hostile("output-with-flags", "sets flags", Fails(MALFORMED), || lying(|frame| frame[12] = 1)),
    hostile("operation-of-no-kind", "has an operation 0xffff", Fails(MALFORMED), || {
        lying(|frame| frame[16..18].fill(0xff))
    }),
    hostile("operation-beyond-the-frame", "has a body of 4 GiB", Fails(MALFORMED), || {
        lying(|frame| frame[20..24].fill(0xff))
    }),
    hostile("topic-beyond-the-body", "has a topic of 4 GiB", Fails(MALFORMED), || {
        lying(|frame| frame[24..28].fill(0xff))
    }),
    hostile("lengths-that-wrap", "has lengths that add up past 2^32", Fails(MALFORMED), || {
        lying(|frame| {
            frame[24..28].copy_from_slice(&0x8000_0003_u32.to_le_bytes());
            frame[28..32].copy_from_slice(&0x8000_0000_u32.to_le_bytes());
        })
    }),
    hostile("quality-of-service-3", "publishes with 3", Fails(MALFORMED), || {
        lying(|frame| frame[36] = 3)
    }),
    hostile("topic-of-no-text", "has a topic that is no UTF-8", Fails(MALFORMED), || {
        lying(|frame| frame[40] = 0xff)
    }),
    hostile("properties-cut-off", "has a property list cut off", Fails(MALFORMED), || {
        returning(&frame(&[emit("alerts/a", &[], &[9, 0, 1, 0, b'k'])]))
    }),
    hostile("properties-of-no-text", "has a property that is no UTF-8", Fails(MALFORMED), || {
        returning(&frame(&[emit("alerts/a", &[], &[1, 0, 1, 0, 0xff, 0xfe])]))
    }),
    hostile("cause-beyond-the-batch", "names entry 999 as the cause", Handled, || {
        lying(|frame| frame[38..40].copy_from_slice(&1_000_u16.to_le_bytes()))
    }),
    hostile("nack-beyond-the-batch", "refuses entry 16 of 16", Fails("refuses entry 16"), || {
        returning(&frame(&[nack(16)]))
    }),
    hostile("nack-of-the-last", "refuses entry 2^32 - 1", Fails("refuses entry"), || {
        returning(&frame(&[nack(u32::MAX)]))
    }),
    hostile("output-flood", "fills the 1 MiB with empty messages", Handled, || {
        let each = frame(&[emit("alerts/a", &[], &[]); 2]).len()
            - frame(&[emit("alerts/a", &[], &[])]).len();
        returning(&frame(&vec![emit("alerts/a", &[], &[]); (OUTPUT_BYTES - 16) / each]))
    }),
    hostile("log-operation-flood", "fills the 1 MiB with lines of log", Handled, || {
        let line = Operation::Log { level: tidegate_abi::Level::Error, text: "" };
        returning(&frame(&vec![line; (OUTPUT_BYTES - 16) / 16]))
    }),
    hostile("state-flood", "writes a megabyte of state each time", Handled, || {
        let value = vec![0; OUTPUT_BYTES / 2];
        let put = |key| Operation::KvPut { key, value: &value[..value.len() - 64], ttl_ms: 0 };
        returning(&frame(&[put(b"a"), put(b"b")]))
    }),
    hostile("timer-flood", "sets 10,000 timers of a millisecond", Handled, || {
        let names: Vec<String> = (0..10_000).map(|number| format!("timer-{number}")).collect();
        let timers: Vec<Operation<'_>> = names
            .iter()
            .map(|name| Operation::TimerSet { name, delay_ms: 1, period_ms: 1 })
            .collect();
        returning(&frame(&timers))
    }),
    hostile("metric-flood", "makes a metric of each number", Handled, || {
        let names: Vec<String> = (0..10_000).map(|number| format!("metric_{number}")).collect();
        let metrics: Vec<Operation<'_>> = names
            .iter()
            .map(|name| Operation::Metric {
                name,
                kind: tidegate_abi::MetricKind::Gauge,
                value: f64::NAN,
            })
            .collect();
        returning(&frame(&metrics))
    }),
    hostile("topic-denied", "publishes where it may not", Handled, || {
        returning(&frame(&[emit("$SYS/broker/uptime", b"0", &[])]))
    }),
    hostile("topic-with-wildcards", "publishes to a filter", Handled, || {
        returning(&frame(&[emit("alerts/#", b"0", &[])]))
    }),
    hostile("topic-empty", "publishes to nowhere", Handled, || {
        returning(&frame(&[emit("", b"0", &[])]))
    }),
    hostile("stop-that-loops", "loops when it is to end", Handled, || {
        Guest { fields: r#"(func (export "tg_stop") (loop $l (br $l)))"#, ..QUIET }.module()
    }),
];

fn emit<'a>(topic: &'a str, payload: &'a [u8], props: &'a [u8]) -> Operation<'a> {
    Operation::Emit { topic, payload, qos: Qos::AtLeastOnce, retain: false, props, cause: None }
}

fn nack(index: u32) -> Operation<'static> {
    Operation::Nack { index, class: NackClass::Dead, code: 1, text: "no" }
}

#[allow(clippy::expect_used, reason = "the operations are constants of this crate")]
fn frame(operations: &[Operation<'_>]) -> Vec<u8> {
    let mut writer = OutputWriter::new();
    for operation in operations {
        writer.push(operation).expect("the frames of this set are short");
    }
    writer.finish()
}

/// A guest that returns the frame of one message to `abc`, with a change.
fn lying(change: fn(&mut [u8])) -> Vec<u8> {
    let mut frame = frame(&[emit("abc", b"21.5", &[])]);
    change(&mut frame);
    returning(&frame)
}
