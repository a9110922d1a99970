//! A gateway with a listener of each kind, beside a certificate for clients.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tidegate_rig::gateway::Gateway;
use tidegate_rig::ports;
use tidegate_rig::scratch::Scratch;

use crate::binaries;
use crate::security::openssl;
use crate::setup::wait;

use super::scenario::Transport;

/// Longer than it takes until an acknowledgement of a client is on the disk.
const ACKNOWLEDGEMENTS: Duration = Duration::from_millis(1500);

/// The gateway and where its listeners are. `it/#` is allowed, everything else is denied.
pub(super) struct Plant {
    pub(super) gateway: Gateway,
    tls: SocketAddr,
    websocket: SocketAddr,
    both: SocketAddr,
}

impl Plant {
    pub(super) fn start() -> Plant {
        let scratch = Scratch::new("clients").unwrap();
        openssl(
            scratch.path(),
            r#"authority ca; issue ca server "-days 30"; issue ca client "-days 30""#,
        );
        let (tls, websocket, both) =
            (ports::free().unwrap(), ports::free().unwrap(), ports::free().unwrap());
        let config = format!(
            r#"[gateway]
id = "gw-it"
data_dir = "{{data}}"

[http]
listen = "{{http}}"

[mqtt]
listen = "{{mqtt}}"
allow_anonymous = true

[mqtt.listener.tls]
listen = "{tls}"
tls = true
allow_anonymous = false

[mqtt.listener.websocket]
listen = "{websocket}"
websocket = "/mqtt"

[mqtt.listener.both]
listen = "{both}"
tls = true
websocket = "/mqtt"
allow_anonymous = false

[mqtt.tls]
cert_file = "server.pem"
key_file = "server.key"
client_ca_file = "ca.pem"

[[mqtt.acl]]
topics = ["it/#"]
"#
        );
        let mut gateway = Gateway::new(&binaries::tidegate(), scratch, &config).unwrap();
        gateway.start().unwrap();
        Plant { gateway, tls, websocket, both }
    }

    /// Waits until a kill cannot undo what clients have acknowledged: the gateway may forget a PUBACK
    /// or PUBCOMP of the last second (docs/formats/sessions.md). A client then gets a message or a
    /// PUBREL again, which rumqttc takes for an error when it does not remember the message.
    pub(super) fn settle(&self) {
        let now = Instant::now();
        wait(&self.gateway, "acknowledgements are kept", || now.elapsed() > ACKNOWLEDGEMENTS);
    }

    pub(super) fn port(&self, transport: Transport) -> u16 {
        match transport {
            Transport::Tcp => self.gateway.mqtt().port(),
            Transport::Tls => self.tls.port(),
            Transport::WebSocket => self.websocket.port(),
            Transport::WebSocketOverTls => self.both.port(),
        }
    }
}
