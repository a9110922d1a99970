//! Who the gateway is to a nats-server: a client certificate, a user whom an account has signed;
//! and a JetStream with a domain. Wrong ones are refused in words, and no secret is in them.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_rig::gateway::Gateway;
use tidegate_rig::mqtt::Version;
use tidegate_rig::nats::{NatsClient, NatsServer, Stored, is_installed};
use tidegate_rig::nkeys::{Kind, Nkey, creds};
use tidegate_rig::scratch::Scratch;

use crate::binaries;
use crate::security::openssl;
use crate::setup::{PATIENCE, Readings, beside_others, config, explain, number, publisher, wait};

const READINGS: u64 = 300;

/// A running gateway with an uplink to `url` with these options; its files are in `scratch`.
fn gateway(url: &str, options: &str, scratch: Scratch) -> Gateway {
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let text = config(nowhere, "").replace("mqtt://127.0.0.1:1", url) + options;
    let mut gateway = Gateway::new(&binaries::tidegate(), scratch, &text).unwrap();
    gateway.start().unwrap();
    gateway
}

/// Publishes and waits until all is acknowledged upstream, over a kill of the gateway.
fn bring_up(gateway: &mut Gateway) {
    let source = Readings::paced("p0", READINGS, Duration::from_millis(1));
    let publisher = publisher(gateway.mqtt(), "p0", Version::V5, Some(7), source);
    wait(gateway, "a third is stored", || {
        number(gateway, "/uplinks/0/acknowledged") >= Some(READINGS / 3)
    });
    gateway.kill().unwrap();
    gateway.start().unwrap();
    let report = publisher.finish(Instant::now() + PATIENCE).unwrap();
    assert_eq!(report.acknowledged.len() as u64, READINGS, "{:?}", report.last_error);
    wait(gateway, "all is stored", || {
        let done = |pointer| number(gateway, pointer) == Some(0);
        number(gateway, "/streams/0/next_seq") == Some(READINGS + 1)
            && done("/uplinks/0/backlog")
            && done("/uplinks/0/in_flight")
    });
}

/// Each reading once and in order.
fn judge(messages: &[Stored]) {
    let found: Vec<_> = messages.iter().map(|one| one.identity().unwrap().seq).collect();
    assert!(found.iter().copied().eq(1..=READINGS), "{found:?}");
}

/// Waits until the status for people says `words`, with none of the secrets there or in the log.
fn says(gateway: &Gateway, words: &[&str], secrets: &[String]) {
    let mut said = String::new();
    wait(gateway, &format!("the status says {words:?}"), || {
        said = gateway.command(&["status"]).unwrap();
        words.iter().all(|word| said.contains(word))
    });
    println!("{}", said.lines().find(|line| line.contains(words[0])).unwrap());
    let log = fs::read_to_string(gateway.log_file()).unwrap();
    let json = gateway.command(&["status", "--json"]).unwrap();
    for secret in secrets {
        for text in [&said, &json, &log] {
            assert!(!text.contains(secret.as_str()), "{}", explain(gateway));
        }
    }
}

#[test]
fn nats_takes_the_certificate_that_it_knows_and_refuses_another_and_none() {
    let _machine = beside_others();
    let scratch = Scratch::new("certificates").unwrap();
    let dir = scratch.path();
    if !is_installed() {
        return;
    }
    openssl(dir, "alone server; alone client; alone stranger");
    // The stream is made without TLS, and read back so.
    let mut server = NatsServer::start("").unwrap();
    let mut operator = NatsClient::connect(server.address()).unwrap();
    operator.create_stream("TIDEGATE", &["tidegate.>"], json!({})).unwrap();
    server.kill().unwrap();
    let file = |name: &str| dir.join(name).display().to_string();
    let tls = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}",
        file("server.pem"),
        file("server.key"),
        file("client.pem")
    );
    server.configure("", &tls).unwrap();
    server.restart().unwrap();
    let url = format!("tls://localhost:{}", server.address().port());
    let open = |own: Option<&str>| {
        let mut options = format!("ca_file = \"{}\"\n", file("server.pem"));
        if let Some(own) = own {
            let (cert, key) = (file(&format!("{own}.pem")), file(&format!("{own}.key")));
            options += &format!("cert_file = \"{cert}\"\nkey_file = \"{key}\"\n");
        }
        gateway(&url, &options, Scratch::new("it").unwrap())
    };
    let secret = fs::read_to_string(dir.join("stranger.key")).unwrap();
    let secret: Vec<_> = secret.lines().skip(1).take(3).map(str::to_owned).collect();
    says(&open(Some("stranger")), &["does not accept the gateway's certificate"], &secret);
    says(&open(None), &["does not accept the gateway's certificate"], &[]);
    bring_up(&mut open(Some("client")));
    server.kill().unwrap();
    server.configure("", "").unwrap();
    server.restart().unwrap();
    judge(&NatsClient::connect(server.address()).unwrap().read("TIDEGATE").unwrap());
}

#[test]
fn nats_takes_the_user_whom_its_account_has_signed_and_refuses_others() {
    let _machine = beside_others();
    if !is_installed() {
        return;
    }
    let key = |kind, byte| Nkey::of(kind, byte).unwrap();
    let operator = key(Kind::Operator, 1);
    let (account, system) = (key(Kind::Account, 2), key(Kind::Account, 3));
    let (user, stranger) = (key(Kind::User, 4), key(Kind::User, 5));
    let all = json!({ "limits": { "subs": -1, "data": -1, "payload": -1, "imports": -1,
        "exports": -1, "wildcards": true, "conn": -1, "leaf": -1, "mem_storage": -1,
        "disk_storage": -1, "streams": -1, "consumer": -1 } });
    let unlimited = json!({ "subs": -1, "data": -1, "payload": -1 });
    let more = format!(
        "operator: {}\nresolver: MEMORY\nsystem_account: {}\n\
         resolver_preload {{ {}: {}\n {}: {} }}",
        operator.vouch(&operator, &json!({})),
        system.public(),
        account.public(),
        operator.vouch(&account, &all),
        system.public(),
        operator.vouch(&system, &json!({})),
    );
    let server = NatsServer::start(&more).unwrap();
    let jwt = account.vouch(&user, &unlimited);
    let mut client = NatsClient::connect_as(server.address(), &jwt, &user).unwrap();
    client.create_stream("TIDEGATE", &["tidegate.>"], json!({})).unwrap();
    let url = format!("nats://{}", server.address());
    let open = |text: &str| {
        let scratch = Scratch::new("it").unwrap();
        let file = scratch.path().join("user.creds");
        fs::write(&file, text).unwrap();
        Command::new("chmod").arg("600").arg(&file).status().unwrap();
        gateway(&url, &format!("credentials_file = \"{}\"\n", file.display()), scratch)
    };
    // Of an account that the operator does not know, and with a key that is not the user's.
    let unknown = key(Kind::Account, 6).vouch(&user, &unlimited);
    for (jwt, key) in [(&unknown, &user), (&jwt, &stranger)] {
        let gateway = open(&creds(jwt, key));
        says(&gateway, &["does not accept the login"], &[key.seed(), jwt.clone()]);
    }
    let mut gateway = open(&creds(&jwt, &user));
    bring_up(&mut gateway);
    says(&gateway, &["connected"], &[user.seed(), jwt.clone()]);
    judge(&client.read("TIDEGATE").unwrap());
}

#[test]
fn nats_with_a_jetstream_domain_stores_each_record_once() {
    let _machine = beside_others();
    if !is_installed() {
        return;
    }
    let server = NatsServer::start_with("domain: \"hub\"", "").unwrap();
    let mut operator = NatsClient::connect(server.address()).unwrap();
    operator.create_stream("TIDEGATE", &["tidegate.>"], json!({})).unwrap();
    let url = format!("nats://{}", server.address());
    bring_up(&mut gateway(&url, "", Scratch::new("it").unwrap()));
    judge(&operator.read("TIDEGATE").unwrap());
}
