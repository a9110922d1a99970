//! The HTTPS sink with PostgreSQL: the gateway, the reference server and the database are killed,
//! and the link between them is cut and goes silent. Judged by SQL: the table has no unique key,
//! so a record stored twice would be there twice.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tidegate_rig::gateway::Gateway;
use tidegate_rig::mqtt::Version;
use tidegate_rig::postgres::Postgres;
use tidegate_rig::proxy::{Mode, Proxy};
use tidegate_rig::publisher::Publisher;
use tidegate_rig::sink::Sink;

use crate::binaries;
use crate::setup::{
    PATIENCE, Readings, beside_others, explain, gateway, number, publisher, threshold, wait,
};

const PUBLISHERS: u64 = 4;
const READINGS: u64 = 5_000;
const TOTAL: u64 = PUBLISHERS * READINGS;

/// Streams `telemetry` and `alerts`, both to a sink at `upstream`; `more` is for its section.
fn config(upstream: SocketAddr, functions: &str, more: &str) -> String {
    let mqtt = crate::setup::config(upstream, functions);
    let (before, _) = mqtt.split_once("[uplink.cloud]").unwrap();
    format!(
        r#"{before}[uplink.warehouse]
url = "http://{upstream}"
streams = ["telemetry", "alerts"]
window = 1000
batch_records = 250
ack_timeout = "2s"
connect_timeout = "2s"
backoff_max = "500ms"
{more}"#
    )
}

/// The parts that are killed, and the link.
struct World {
    postgres: Postgres,
    sink: Sink,
    proxy: Proxy,
    gateway: Gateway,
}

impl World {
    fn new(sink_options: &[&str], functions: &str, more: &str) -> World {
        let postgres = Postgres::start().unwrap();
        let database = postgres.connection_string();
        let options = [&["--database", &database[..]], sink_options].concat();
        let sink = Sink::start(&binaries::sink(), &options).unwrap();
        let proxy = Proxy::start(sink.address()).unwrap();
        let gateway = gateway(&config(proxy.address(), functions, more));
        World { postgres, sink, proxy, gateway }
    }

    fn stored(&self, stream: &str) -> u64 {
        let count = format!("select count(*) from tidegate_records where stream = '{stream}'");
        // Also while the database is away: then nothing is known of it.
        self.postgres.sql(&count).ok().and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    fn wait_for_stored(&self, stream: &str, count: u64) {
        wait(&self.gateway, &format!("{count} records of {stream} are stored"), || {
            self.stored(stream) >= count
        });
    }

    fn wait_until_everything_is_sent(&self) {
        wait(&self.gateway, "the gateway has nothing left to send", || {
            ["/uplinks/0/backlog", "/uplinks/0/in_flight", "/functions/0/lag"]
                .iter()
                .all(|pointer| number(&self.gateway, pointer).unwrap_or(0) == 0)
        });
    }

    /// Fails unless the statement, which looks for what must not be, finds nothing.
    fn none(&self, what: &str, statement: &str) {
        let found = self.postgres.sql(&format!("{statement} limit 5")).unwrap();
        assert!(found.is_empty(), "{what}:\n{found}\n{}", explain(&self.gateway));
    }

    fn judge_each_record_once_and_in_order(&self) {
        self.none(
            "records that are there twice",
            "select gateway, stream, epoch, seq, count(*) from tidegate_records
             group by 1, 2, 3, 4 having count(*) > 1",
        );
        self.none(
            "records out of order",
            "select * from (select stream, epoch, seq, arrival, lag((epoch, seq))
               over (partition by gateway, stream order by arrival) as before
               from tidegate_records) as pairs
             where (epoch, seq) <= before",
        );
        self.none(
            "cursors that do not say what is stored",
            "select * from tidegate_cursors as c where committed <> (
               select coalesce(max(seq), 0) from tidegate_records as r
               where (r.gateway, r.stream, r.epoch) = (c.gateway, c.stream, c.epoch))",
        );
    }
}

#[test]
fn each_record_is_in_the_table_once_over_kills_of_gateway_sink_and_database_and_cut_links() {
    let _machine = beside_others();
    let mut world = World::new(&[], &threshold(", every = true"), "");
    let publishers: Vec<Publisher> = (0..PUBLISHERS)
        .map(|at| {
            let name = format!("p{at}");
            // Slow enough that the last trouble still meets publishers at work.
            let source = Readings::paced(&name, READINGS, Duration::from_millis(2));
            publisher(world.gateway.mqtt(), &name, Version::V5, Some(7), source)
        })
        .collect();
    for round in 1..=8 {
        world.wait_for_stored("telemetry", round * TOTAL / 10);
        match round {
            1 | 5 => {
                world.sink.kill().unwrap();
                world.sink.start_again().unwrap();
            }
            2 | 6 => {
                world.postgres.kill().unwrap();
                world.postgres.start_again().unwrap();
            }
            3 => {
                world.proxy.set(Mode::Cut);
                world.sink.kill().unwrap();
                world.gateway.kill().unwrap();
                world.sink.start_again().unwrap();
                world.gateway.start().unwrap();
                world.proxy.set(Mode::Pass);
            }
            4 => {
                let before = world.proxy.accepted();
                world.proxy.set(Mode::BlackHole);
                wait(&world.gateway, "the gateway gives the silent link up", || {
                    world.proxy.accepted() > before
                });
                world.proxy.set(Mode::Pass);
            }
            7 => {
                // All at once.
                world.postgres.kill().unwrap();
                world.gateway.kill().unwrap();
                world.gateway.start().unwrap();
                world.postgres.start_again().unwrap();
            }
            _ => {
                world.gateway.kill().unwrap();
                world.gateway.start().unwrap();
            }
        }
    }
    let deadline = Instant::now() + PATIENCE;
    for publisher in publishers {
        let report = publisher.finish(deadline).unwrap();
        assert_eq!(report.acknowledged.len() as u64, READINGS, "{:?}", report.last_error);
    }
    world.wait_for_stored("telemetry", TOTAL);
    world.wait_for_stored("alerts", TOTAL / 10);
    world.wait_until_everything_is_sent();

    world.judge_each_record_once_and_in_order();
    for (stream, count) in [("telemetry", TOTAL), ("alerts", TOTAL / 10)] {
        assert_eq!(world.stored(stream), count, "{stream}");
    }
    world.none(
        "readings that are there twice",
        "select payload, count(*) from tidegate_records where stream = 'telemetry'
         group by payload having count(*) > 1",
    );
    world.none(
        "readings of a sensor out of order",
        "select * from (select client, payload, lag(payload)
           over (partition by client order by arrival) as before
           from tidegate_records where stream = 'telemetry') as pairs
         where payload <= before",
    );
    let clients = "select count(distinct client) from tidegate_records where stream = 'telemetry'";
    assert_eq!(world.postgres.sql(clients).unwrap(), PUBLISHERS.to_string());
}

#[test]
fn a_record_that_the_sink_refuses_is_given_up_alone_and_entered_in_the_ledger() {
    let _machine = beside_others();
    let more = "format = \"ndjson\"\ncompression = \"none\"\n";
    let world = World::new(&["--refuse", "p0-000500"], "", more);
    let source = Readings::new("p0", 1_000);
    let publisher = publisher(world.gateway.mqtt(), "p0", Version::V5, Some(7), source);
    let report = publisher.finish(Instant::now() + PATIENCE).unwrap();
    assert_eq!(report.acknowledged.len(), 1_000, "{:?}", report.last_error);
    world.wait_for_stored("telemetry", 999);
    world.wait_until_everything_is_sent();
    world.judge_each_record_once_and_in_order();
    let missing = "select count(*) from tidegate_records
        where convert_from(payload, 'UTF8') like '%p0-000500%'";
    assert_eq!(world.postgres.sql(missing).unwrap(), "0");
    assert_eq!(number(&world.gateway, "/uplinks/0/rejected"), Some(1));
    assert_eq!(number(&world.gateway, "/streams/0/lost"), Some(1));
}
