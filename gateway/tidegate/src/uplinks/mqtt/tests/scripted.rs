//! What the driver does with each answer a server may give.

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnAckProperties, ConnectReturnCode, Disconnect, DisconnectProperties,
    DisconnectReasonCode, Packet, PubAck, PubAckReason,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// One accepted connection of a server that does what the test says.
struct Peer {
    socket: TcpStream,
    read: BytesMut,
}

impl Peer {
    async fn accept(listener: &TcpListener) -> Peer {
        let (socket, _) = listener.accept().await.unwrap();
        Peer { socket, read: BytesMut::new() }
    }

    async fn packet(&mut self) -> Packet {
        loop {
            if let Ok(packet) = Packet::read(&mut self.read, Some(1 << 20)) {
                return packet;
            }
            let count = self.socket.read_buf(&mut self.read).await.unwrap();
            assert_ne!(count, 0, "the driver closed the connection");
        }
    }

    async fn say(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();
        self.socket.write_all(&bytes).await.unwrap();
    }

    /// Takes CONNECT and answers.
    async fn welcome(&mut self, code: ConnectReturnCode, limits: impl FnOnce(&mut Limits)) {
        let Packet::Connect(connect, will, login) = self.packet().await else { panic!() };
        assert_eq!((connect.client_id.as_str(), connect.clean_start), ("tidegate-gw-up", true));
        assert!(will.is_none() && login.is_none());
        let mut properties = no_limits();
        limits(&mut properties);
        let properties = Some(properties);
        self.say(Packet::ConnAck(ConnAck { session_present: false, code, properties })).await;
    }

    async fn publish(&mut self) -> (u16, String) {
        match self.packet().await {
            Packet::Publish(publish) => {
                (publish.pkid, String::from_utf8(publish.payload.to_vec()).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    async fn answer(&mut self, packet_id: u16, reason: PubAckReason) {
        let mut puback = PubAck::new(packet_id, None);
        puback.reason = reason;
        self.say(Packet::PubAck(puback)).await;
    }

    async fn disconnect(&mut self, reason_code: DisconnectReasonCode) {
        let properties = Some(DisconnectProperties {
            session_expiry_interval: None,
            reason_string: Some("because".to_owned()),
            user_properties: Vec::new(),
            server_reference: None,
        });
        self.say(Packet::Disconnect(Disconnect { reason_code, properties })).await;
    }

    /// Reads until the driver has closed the connection.
    async fn closed(&mut self) {
        let mut rest = Vec::new();
        let end = tokio::time::timeout(PATIENCE, self.socket.read_to_end(&mut rest)).await;
        // Reset or end of file, both are gone.
        let _ = end.expect("the driver keeps the socket");
    }
}

type Limits = ConnAckProperties;

fn no_limits() -> Limits {
    ConnAckProperties {
        session_expiry_interval: None,
        receive_max: None,
        max_qos: None,
        retain_available: None,
        max_packet_size: None,
        assigned_client_identifier: None,
        topic_alias_max: None,
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: None,
        shared_subscription_available: None,
        server_keep_alive: None,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    }
}

async fn listen() -> (TcpListener, Driver) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, Driver::start(target(port)))
}

/// A driver in session 1, connected.
async fn connected(limits: impl FnOnce(&mut Limits)) -> (TcpListener, Peer, Driver) {
    let (listener, mut driver) = listen().await;
    driver.connect(1).await;
    let mut peer = Peer::accept(&listener).await;
    peer.welcome(ConnectReturnCode::Success, limits).await;
    assert_eq!(driver.event().await, UplinkEvent::Connected { session: 1, held: Vec::new() });
    (listener, peer, driver)
}

fn payload(bytes: Vec<u8>) -> OutboundRecord {
    OutboundRecord { payload: bytes, ..OutboundRecord::default() }
}

#[test]
fn each_acknowledgement_reaches_the_message_it_is_for_in_whatever_order() {
    on_side_thread(async {
        let (_listener, mut peer, mut driver) = connected(|_| {}).await;
        for token in 10..14 {
            driver.send(1, token, payload(token.to_string().into_bytes())).await;
        }
        let mut ids = Vec::new();
        for token in 10..14 {
            let (id, sent) = peer.publish().await;
            assert_eq!(sent, token.to_string());
            ids.push(id);
        }
        let refused = |token, reason| UplinkEvent::Refused { session: 1, token, reason };
        let answers = [
            (2, PubAckReason::Success, UplinkEvent::Acknowledged { session: 1, token: 12 }),
            (0, PubAckReason::QuotaExceeded, refused(10, RefuseReason::QuotaExceeded)),
            (3, PubAckReason::UnspecifiedError, refused(13, RefuseReason::Other { code: 0x80 })),
            (
                1,
                PubAckReason::NoMatchingSubscribers,
                UplinkEvent::Acknowledged { session: 1, token: 11 },
            ),
        ];
        for (at, reason, event) in answers {
            peer.answer(ids[at], reason).await;
            assert_eq!(driver.event().await, event);
        }
    });
}

#[test]
fn message_beyond_the_servers_limit_is_refused_before_it_is_sent() {
    on_side_thread(async {
        let (_listener, mut peer, mut driver) =
            connected(|limits| limits.max_packet_size = Some(300)).await;
        driver.send(1, 1, payload(vec![0; 300])).await;
        match driver.event().await {
            UplinkEvent::Refused {
                session: 1,
                token: 1,
                reason: RefuseReason::PacketTooLarge { bytes: Some(bytes), max: Some(300) },
            } => assert!((400..600).contains(&bytes), "{bytes}: payload and envelope"),
            other => panic!("{other:?}"),
        }
        driver.send(1, 2, payload(b"small".to_vec())).await;
        assert_eq!(peer.publish().await.1, "small");
    });
}

#[test]
fn disconnect_about_a_message_is_told_apart_from_any_other() {
    on_side_thread(async {
        let (listener, mut peer, mut driver) = connected(|_| {}).await;
        peer.disconnect(DisconnectReasonCode::PacketTooLarge).await;
        match driver.event().await {
            UplinkEvent::Expelled { session: 1, reason, why } => {
                assert_eq!(reason, RefuseReason::PacketTooLarge { bytes: None, max: None });
                assert!(why.contains("0x95") && why.contains("because"), "{why}");
            }
            other => panic!("{other:?}"),
        }
        peer.closed().await;
        driver.connect(2).await;
        let mut peer = Peer::accept(&listener).await;
        peer.welcome(ConnectReturnCode::Success, |_| {}).await;
        assert_eq!(driver.event().await, UplinkEvent::Connected { session: 2, held: Vec::new() });
        peer.disconnect(DisconnectReasonCode::ServerShuttingDown).await;
        match driver.event().await {
            UplinkEvent::Disconnected { session: 2, why } => assert!(why.contains("0x8b"), "{why}"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn each_way_not_to_connect_is_reported_as_a_sentence() {
    on_side_thread(async {
        let (listener, mut driver) = listen().await;
        let refuse = async {
            let mut peer = Peer::accept(&listener).await;
            peer.welcome(ConnectReturnCode::BadUserNamePassword, |_| {}).await;
        };
        let (why, ()) = tokio::join!(driver.failure(1), refuse);
        assert!(why.contains("bad user name or password"), "{why}");

        let qos0 = async {
            let mut peer = Peer::accept(&listener).await;
            peer.welcome(ConnectReturnCode::Success, |limits| limits.max_qos = Some(0)).await;
        };
        let (why, ()) = tokio::join!(driver.failure(2), qos0);
        assert!(why.contains("QoS 0 only"), "{why}");

        let hang_up = async { drop(Peer::accept(&listener).await) };
        let (why, ()) = tokio::join!(driver.failure(3), hang_up);
        assert!(why.contains("closed the connection"), "{why}");

        let babble = async {
            let mut peer = Peer::accept(&listener).await;
            let page = format!("HTTP/1.1 400 Bad Request\r\n\r\n{}", " ".repeat(100));
            peer.socket.write_all(page.as_bytes()).await.unwrap();
            peer.closed().await;
        };
        let (why, ()) = tokio::join!(driver.failure(4), babble);
        assert!(why.contains("not MQTT 5"), "{why}");

        drop(listener);
        let why = driver.failure(5).await;
        assert!(why.contains("nothing listens there"), "{why}");

        let url = "mqtt://no-such-host.invalid";
        let nowhere = MqttTarget::parse("gw", "up", url, TargetOptions::default()).unwrap();
        let why = Driver::start(nowhere).failure(1).await;
        assert!(why.contains("no-such-host.invalid:1883"), "{why}");
    });
}

#[test]
fn session_ends_at_once_when_told_so_while_the_server_does_not_answer_connect() {
    on_side_thread(async {
        let (listener, mut driver) = listen().await;
        driver.connect(1).await;
        let mut first = Peer::accept(&listener).await;
        driver.act(Action::Disconnect { session: 1, why: String::new() }).await;
        first.closed().await;
        driver.connect(2).await;
        let mut second = Peer::accept(&listener).await;
        second.welcome(ConnectReturnCode::Success, |_| {}).await;
        assert_eq!(driver.event().await, UplinkEvent::Connected { session: 2, held: Vec::new() });
    });
}

#[test]
fn session_ends_at_once_when_told_so_while_a_write_is_stuck() {
    on_side_thread(async {
        let (_listener, mut peer, driver) = connected(|_| {}).await;
        // More than any socket buffer holds, and the peer reads none of it.
        for token in 0..100 {
            driver.send(1, token, payload(vec![0; 200_000])).await;
        }
        driver.act(Action::Disconnect { session: 1, why: String::new() }).await;
        peer.closed().await;
    });
}

#[test]
fn server_without_keep_alive_is_not_flooded_with_pings() {
    on_side_thread(async {
        let (_listener, mut peer, mut driver) =
            connected(|limits| limits.server_keep_alive = Some(0)).await;
        assert!(matches!(peer.packet().await, Packet::PingReq(_)));
        driver.send(1, 1, payload(b"next".to_vec())).await;
        let (id, sent) = peer.publish().await;
        assert_eq!(sent, "next");
        peer.answer(id, PubAckReason::Success).await;
        assert_eq!(driver.event().await, UplinkEvent::Acknowledged { session: 1, token: 1 });
    });
}

#[test]
fn actions_of_a_session_that_is_over_are_ignored() {
    on_side_thread(async {
        let (_listener, mut peer, driver) = connected(|_| {}).await;
        driver.send(7, 1, payload(b"stale".to_vec())).await;
        driver.act(Action::Disconnect { session: 7, why: String::new() }).await;
        driver.send(1, 2, payload(b"fresh".to_vec())).await;
        assert_eq!(peer.publish().await.1, "fresh");
    });
}

#[test]
fn server_hears_a_goodbye_when_the_daemon_shuts_down() {
    on_side_thread(async {
        let (_listener, mut peer, driver) = connected(|_| {}).await;
        drop(driver.actions);
        let mut rest = Vec::new();
        peer.socket.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, [0xe0, 0x00], "DISCONNECT, normal");
        driver.task.await.unwrap();
    });
}

#[test]
fn code_that_mqtt_does_not_know_for_an_acknowledgement_refuses_the_message_that_it_is_for() {
    on_side_thread(async {
        let (_listener, mut peer, mut driver) = connected(|_| {}).await;
        driver.send(1, 1, payload(b"small".to_vec())).await;
        driver.send(1, 2, payload(b"large".to_vec())).await;
        let (first, _) = peer.publish().await;
        let (id, _) = peer.publish().await;
        let [high, low] = id.to_be_bytes();
        // mosquitto's answer to a message that is larger than it takes.
        peer.socket.write_all(&[0x40, 3, high, low, 0x95]).await.unwrap();
        let reason = RefuseReason::PacketTooLarge { bytes: None, max: None };
        let refused = UplinkEvent::Refused { session: 1, token: 2, reason };
        assert_eq!(driver.event().await, refused);
        peer.answer(first, PubAckReason::Success).await;
        assert_eq!(driver.event().await, UplinkEvent::Acknowledged { session: 1, token: 1 });
    });
}

#[test]
fn server_that_acknowledges_what_was_not_sent_is_left_with_the_packet_id_named() {
    on_side_thread(async {
        let (_listener, mut peer, mut driver) = connected(|_| {}).await;
        peer.answer(77, PubAckReason::Success).await;
        match driver.event().await {
            UplinkEvent::Disconnected { session: 1, why } => {
                assert!(why.contains("acknowledged packet 77"), "{why}");
            }
            other => panic!("{other:?}"),
        }
        peer.closed().await;
    });
}

#[test]
fn no_more_is_on_its_way_than_the_servers_receive_maximum() {
    on_side_thread(async {
        let (_listener, mut peer, mut driver) =
            connected(|limits| limits.receive_max = Some(2)).await;
        for token in 1..=5 {
            driver.send(1, token, payload(token.to_string().into_bytes())).await;
        }
        let (first, _) = peer.publish().await;
        let (second, payload) = peer.publish().await;
        assert_eq!(payload, "2");
        // Nothing follows until an acknowledgement has made room.
        let more = tokio::time::timeout(Duration::from_millis(200), peer.packet()).await;
        assert!(more.is_err(), "{more:?}");
        peer.answer(first, PubAckReason::Success).await;
        assert_eq!(peer.publish().await.1, "3");
        let acknowledged = |token| UplinkEvent::Acknowledged { session: 1, token };
        assert_eq!(driver.event().await, acknowledged(1), "although more waits");
        peer.answer(second, PubAckReason::Success).await;
        assert_eq!(peer.publish().await.1, "4");
        drop(peer);
        assert_eq!(driver.event().await, acknowledged(2), "before it hears of the end");
        assert!(matches!(driver.event().await, UplinkEvent::Disconnected { session: 1, .. }));
    });
}

#[test]
fn acknowledgements_that_come_one_by_one_are_all_heard() {
    on_side_thread(async {
        let (_listener, mut peer, mut driver) = connected(|_| {}).await;
        for token in 0..12 {
            driver.send(1, token, payload(token.to_string().into_bytes())).await;
        }
        let mut ids = Vec::new();
        for _ in 0..12 {
            ids.push(peer.publish().await.0);
        }
        for id in ids {
            peer.answer(id, PubAckReason::Success).await;
            tokio::task::yield_now().await;
        }
        for token in 0..12 {
            assert_eq!(driver.event().await, UplinkEvent::Acknowledged { session: 1, token });
        }
        // One more is sent at once, and the end is noticed.
        driver.send(1, 12, payload(b"12".to_vec())).await;
        assert_eq!(peer.publish().await.1, "12");
        drop(peer);
        assert!(matches!(driver.event().await, UplinkEvent::Disconnected { session: 1, .. }));
    });
}
