//! The connection to an MQTT server: name, TCP, TLS.

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::complaint::Lost;
use super::target::MqttTarget;

/// A TCP connection, with TLS or without.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Socket for T {}

/// A socket on which CONNECT may be sent.
pub(super) async fn open(target: &MqttTarget) -> Result<Box<dyn Socket>, Lost> {
    let (host, port) = target.host_and_port();
    let stream = TcpStream::connect((host, port)).await.map_err(Lost::Io)?;
    // We write whole batches of packets: there is nothing to wait for.
    stream.set_nodelay(true).map_err(Lost::Io)?;
    let Some(config) = target.tls() else { return Ok(Box::new(stream)) };
    let name =
        ServerName::try_from(host.to_owned()).map_err(|error| Lost::Tls(error.to_string()))?;
    let secured = TlsConnector::from(config).connect(name, stream).await;
    Ok(Box::new(secured.map_err(|error| Lost::Tls(error.to_string()))?))
}
