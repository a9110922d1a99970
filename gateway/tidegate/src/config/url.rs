//! An uplink's `url`.

use std::net::Ipv6Addr;

use toml::de::DeValue;

use super::document::Section;
use super::keys::uplink::URL;
use super::mistakes::Mistakes;
use super::settings::UplinkUrl;

/// Longest host name (RFC 1035).
const MAX_HOST: usize = 253;

/// Reads the key `url` of an uplink.
pub(super) fn read(section: &Section<'_>, out: &mut Mistakes) -> UplinkUrl {
    let absent = UplinkUrl { tls: false, host: String::new(), port: 0 };
    let Some(text) = section.text(&URL, out) else { return absent };
    match parse(&text) {
        Ok(url) => url,
        Err(problem) => {
            if let Some(spot) = section.spot(&URL)
                && let DeValue::String(_) = spot.value
            {
                spot.wrong(out, &problem);
            }
            absent
        }
    }
}

fn parse(text: &str) -> Result<UplinkUrl, String> {
    let example = "write \"mqtt://HOST:PORT\"";
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("has no scheme; {example}"));
    };
    let tls = match scheme {
        "mqtt" => false,
        "mqtts" => true,
        "nats" | "https" | "s3" | "kafka" => {
            return Err(format!("this version has no {scheme} uplink; {example}"));
        }
        _ => return Err(format!("unknown scheme \"{scheme}\"; allowed: mqtt, mqtts")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return Err("must not hold a user or a password".to_owned());
    }
    if rest.contains(['/', '?', '#']) {
        return Err(format!("must end after the port; {example}"));
    }
    let (host, port) = split(rest)?;
    let port = match port {
        None if tls => 8883,
        None => 1883,
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => return Err(format!("\"{port}\" is no port; allowed: 1 to 65535")),
            Ok(port) => port,
        },
    };
    Ok(UplinkUrl { tls, host: host.to_owned(), port })
}

fn split(rest: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = rest.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("a [ without its ]")?;
        host.parse::<Ipv6Addr>().map_err(|_| format!("\"{host}\" is no IPv6 address"))?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err("write the port after ]: \"[::1]:1883\"".to_owned()),
        };
    }
    let (host, port) = match rest.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    };
    let fits = (1..=MAX_HOST).contains(&host.len());
    if !fits || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
        return Err(format!("\"{host}\" is no host name or address"));
    }
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_scheme_a_host_and_a_port() {
        for (text, shown) in [
            ("mqtt://cloud.example", "mqtt://cloud.example:1883"),
            ("mqtts://cloud.example/", "mqtts://cloud.example:8883"),
            ("mqtt://127.0.0.1:18830", "mqtt://127.0.0.1:18830"),
            ("mqtts://[::1]:9", "mqtts://[::1]:9"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_wrong_url_says_what_is_wrong() {
        for (text, part) in [
            ("cloud.example:1883", "has no scheme"),
            ("http://cloud", "unknown scheme \"http\""),
            ("kafka://cloud", "no kafka uplink"),
            ("mqtt://user:secret@cloud", "must not hold a user"),
            ("mqtt://cloud/topic", "must end after the port"),
            ("mqtt://cloud:0", "\"0\" is no port"),
            ("mqtt://cloud:70000", "is no port"),
            ("mqtt://:1883", "\"\" is no host"),
            ("mqtt://clo ud", "is no host"),
            ("mqtt://[::1", "without its ]"),
            ("mqtt://[cloud]", "is no IPv6"),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }
}
