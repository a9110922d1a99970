//! The PROXY protocol, versions 1 and 2: where the client of a proxy is.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest line of version 1.
const MAX_LINE: usize = 107;
/// Longest header of version 2 that is taken; what is behind the addresses is of no use here.
const MAX_BODY: usize = 2048;

/// Reads the header, and not a byte more. `None`: the proxy speaks for itself, as for a health
/// check.
///
/// # Errors
/// There is no header, or it is wrong.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<SocketAddr>> {
    let wrong = || io::Error::other("no PROXY protocol header");
    let mut start = [0; 12];
    stream.read_exact(&mut start).await?;
    if &start == SIGNATURE {
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).await?;
        let [version, family, high, low] = rest;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > MAX_BODY {
            return Err(wrong());
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        return version2(version, family, &body).ok_or_else(wrong);
    }
    if !start.starts_with(b"PROXY ") {
        return Err(wrong());
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= MAX_LINE {
            return Err(wrong());
        }
        line.push(stream.read_u8().await?);
    }
    std::str::from_utf8(&line).ok().and_then(version1).ok_or_else(wrong)
}

fn version1(line: &str) -> Option<Option<SocketAddr>> {
    let mut words = line.trim_end().split(' ').skip(1);
    match words.next()? {
        "UNKNOWN" => Some(None),
        family @ ("TCP4" | "TCP6") => {
            let source: IpAddr = words.next()?.parse().ok()?;
            let _destination: IpAddr = words.next()?.parse().ok()?;
            let port = words.next()?.parse().ok()?;
            (source.is_ipv4() == (family == "TCP4")).then(|| Some(SocketAddr::new(source, port)))
        }
        _ => None,
    }
}

fn version2(version: u8, family: u8, body: &[u8]) -> Option<Option<SocketAddr>> {
    match (version, family) {
        (0x20, _) => Some(None),
        (0x21, 0x11) => {
            let (source, rest) = body.split_first_chunk::<4>()?;
            let port = rest.get(4..6)?;
            Some(Some(address(Ipv4Addr::from(*source).into(), port)))
        }
        (0x21, 0x21) => {
            let (source, rest) = body.split_first_chunk::<16>()?;
            let port = rest.get(16..18)?;
            Some(Some(address(Ipv6Addr::from(*source).into(), port)))
        }
        (0x21, _) => Some(None),
        _ => None,
    }
}

fn address(ip: IpAddr, port: &[u8]) -> SocketAddr {
    SocketAddr::new(ip, port.iter().fold(0, |port, byte| port << 8 | u16::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn parsed(bytes: &[u8]) -> Result<(Option<String>, usize), String> {
        let mut stream = bytes;
        let found = read(&mut stream).await.map_err(|error| error.to_string())?;
        Ok((found.map(|address| address.to_string()), stream.len()))
    }

    #[tokio::test]
    async fn headers_of_both_versions_say_where_the_client_is() {
        let v2 = |version: u8, family: u8, body: &[u8]| {
            let length = u16::try_from(body.len()).unwrap().to_be_bytes();
            [SIGNATURE, &[version, family][..], &length, body, b"rest"].concat()
        };
        let v4 = b"\xc0\0\x02\x07\x7f\0\0\x01\x10\x92\x07\x5b\x04\0\x01x";
        let mut v6 = vec![0; 36];
        v6[15] = 1;
        v6[33] = 80;
        for (bytes, expected) in [
            (b"PROXY TCP4 192.0.2.7 127.0.0.1 4242 1883\r\nrest".to_vec(), Some("192.0.2.7:4242")),
            (b"PROXY TCP6 2001:db8::1 ::1 4242 1883\r\nrest".to_vec(), Some("[2001:db8::1]:4242")),
            (b"PROXY UNKNOWN\r\nrest".to_vec(), None),
            (v2(0x21, 0x11, v4), Some("192.0.2.7:4242")),
            (v2(0x21, 0x21, &v6), Some("[::1]:80")),
            (v2(0x20, 0, b""), None),
        ] {
            let found = parsed(&bytes).await;
            assert_eq!(found, Ok((expected.map(str::to_owned), 4)), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        for bytes in [
            &b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c"[..],
            b"PROXY TCP4 192.0.2.7 127.0.0.1 x 1883\r\n",
            b"PROXY TCP4 ::1 127.0.0.1 1 1883\r\n",
            b"PROXY TCP9 192.0.2.7 127.0.0.1 1 1883\r\n",
            b"PROXY TCP4",
            &[b'P'; 200],
            &[&SIGNATURE[..], &[0x31, 0x11, 0, 12], &[0; 12]].concat(),
            &[&SIGNATURE[..], &[0x21, 0x11, 0, 2], &[0; 2]].concat(),
            &[&SIGNATURE[..], &[0x21, 0x11, 0xFF, 0xFF]].concat(),
        ] {
            assert!(parsed(bytes).await.is_err(), "{bytes:?}");
        }
        let endless = [&b"PROXY TCP4 "[..], &[b'1'; 300]].concat();
        assert!(parsed(&endless).await.is_err());
    }
}
