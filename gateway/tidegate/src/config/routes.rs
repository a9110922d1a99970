//! `[[http.route]]`: who may use the routes of functions, and how much; and the routes of a function.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tidegate_flow::HttpRoute;

use super::acl::words;
use super::document::Section;
use super::keys::{function, http, route};
use super::mistakes::Mistakes;
use super::sections::{Reader, listen_addresses, size};
use super::settings::{FunctionSettings, MqttSettings};
use crate::routes::Tokens;

/// Most rules of one gateway.
const MAX_RULES: usize = 64;
/// Where routes are served when the file does not say.
const LISTEN: ([u8; 4], u16) = ([127, 0, 0, 1], 8081);

/// What of functions is served over HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteSettings {
    /// Where; nowhere without rules.
    pub listen: Vec<SocketAddr>,
    /// To whom; the first rule that fits counts.
    pub rules: Vec<RouteRule>,
}

/// `[[http.route]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRule {
    /// It is for routes at or below this path.
    pub path: String,
    /// How clients show who they are.
    pub auth: Authentication,
    /// Who may use the routes; empty: everybody who is known.
    pub users: Vec<String>,
    /// Largest body, in bytes.
    pub max_body: usize,
    /// Requests to a route in a second.
    pub per_second: u64,
    /// How long a client waits.
    pub timeout: Duration,
    /// Whether pushed functions may have routes here.
    pub pushed: bool,
}

/// How clients show who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// Not at all.
    None,
    /// By a token of this file.
    Token(PathBuf),
    /// By a login of the broker's users, in this file.
    Login(PathBuf),
}

impl RouteSettings {
    /// The rule for a route.
    pub fn rule(&self, route: &HttpRoute) -> Option<&RouteRule> {
        self.rules.iter().find(|rule| route.lies_below(&rule.path))
    }
}

/// Reads the rules, and holds the functions' routes against them.
pub(super) fn read(
    reader: &Reader<'_>,
    mqtt: &MqttSettings,
    status: Option<SocketAddr>,
    functions: &[FunctionSettings],
    out: &mut Mistakes,
) -> RouteSettings {
    let sections = Section::list(reader.source, reader.root, &route::SECTION, out);
    if let Some(section) = sections.get(MAX_RULES) {
        section.wrong(out, &format!("one too many; allowed: {MAX_RULES}"));
    }
    let listen = listen(reader, mqtt, status, out);
    let open = listen.iter().find(|address| !address.ip().is_loopback());
    let rule = |section: &Section<'_>| rule(reader, section, open, out);
    let rules: Vec<RouteRule> = sections.iter().map(rule).collect();
    let listen = if rules.is_empty() { Vec::new() } else { listen };
    let settings = RouteSettings { listen, rules };
    check(reader, &settings, functions, out);
    settings
}

fn listen(
    reader: &Reader<'_>,
    mqtt: &MqttSettings,
    status: Option<SocketAddr>,
    out: &mut Mistakes,
) -> Vec<SocketAddr> {
    // The section's own mistakes have been told where the rest of it is read.
    let section = Section::single(
        reader.source,
        reader.root,
        &http::SECTION,
        &mut Mistakes::new(reader.file),
    );
    let Some(spot) = section.spot(&http::ROUTES_LISTEN) else {
        return vec![SocketAddr::from(LISTEN)];
    };
    let mut taken: Vec<SocketAddr> = mqtt.addresses().into_iter().chain(status).collect();
    listen_addresses(&spot, &http::ROUTES_LISTEN, &mut taken, |_, _, _| {}, out)
}

fn rule(
    reader: &Reader<'_>,
    section: &Section<'_>,
    open: Option<&SocketAddr>,
    out: &mut Mistakes,
) -> RouteRule {
    let path = section.text(&route::PATH, out).unwrap_or_default();
    if let Some(spot) = section.spot(&route::PATH)
        && path != "/"
        && let Err(error) = HttpRoute::parse(&format!("GET {path}"))
    {
        spot.wrong(out, &error.to_string());
    }
    RouteRule {
        path,
        auth: authentication(reader, section, open, out),
        users: words(section, &route::USERS, out).into_iter().map(|(_, name)| name).collect(),
        max_body: size(section.bytes(&route::MAX_BODY, out)),
        per_second: section.count(&route::PER_SECOND, out),
        timeout: section.time(&route::TIMEOUT, out),
        pushed: section.flag(&route::PUSHED, out),
    }
}

fn authentication(
    reader: &Reader<'_>,
    section: &Section<'_>,
    open: Option<&SocketAddr>,
    out: &mut Mistakes,
) -> Authentication {
    let auth = section.choice(&route::AUTH, out);
    let tokens = section.spot(&route::TOKENS_FILE);
    if auth != "token"
        && let Some(spot) = &tokens
    {
        spot.wrong(out, "has no use without auth = \"token\"");
    }
    match auth {
        "none" => {
            if let (Some(open), Some(spot)) = (open, section.spot(&route::AUTH)) {
                let problem = format!(
                    "http.routes_listen has {open}, which other machines reach; use \"token\" or \
                     \"login\", or listen on loopback addresses only"
                );
                spot.wrong(out, &problem);
            }
            Authentication::None
        }
        "login" => {
            let mqtt = Section::single(
                reader.source,
                reader.root,
                &super::keys::mqtt::SECTION,
                &mut Mistakes::new(reader.file),
            );
            let file = reader.path(&mqtt, &super::keys::mqtt::USERS_FILE, out);
            if file.is_none()
                && let Some(spot) = section.spot(&route::AUTH)
            {
                spot.wrong(out, "there are no users; set users_file in [mqtt]");
            }
            Authentication::Login(file.unwrap_or_default())
        }
        _ => {
            let file = reader.path(section, &route::TOKENS_FILE, out).unwrap_or_default();
            if reader.looks_at_the_machine()
                && let Err(problem) = Tokens::load(&file)
            {
                match tokens {
                    Some(spot) => spot.wrong(out, &problem),
                    None => section.wrong_absent(route::TOKENS_FILE.name, out, &problem),
                }
            }
            Authentication::Token(file)
        }
    }
}

/// Each route of a function has a rule, and no other function has it.
fn check(
    reader: &Reader<'_>,
    settings: &RouteSettings,
    functions: &[FunctionSettings],
    out: &mut Mistakes,
) {
    let mut seen: Vec<(&str, &HttpRoute)> = Vec::new();
    let mut ignored = Mistakes::new(reader.file);
    let sections = Section::several(reader.source, reader.root, &function::SECTION, &mut ignored);
    for settings_of in functions {
        let section = sections.iter().find(|(name, _)| *name == settings_of.name);
        let mut wrong = |problem: &str| {
            if let Some(spot) = section.and_then(|(_, one)| one.spot(&function::ROUTES)) {
                spot.wrong(out, problem);
            }
        };
        for route in &settings_of.routes {
            if settings.rule(route).is_none() {
                let path = route.pattern();
                wrong(&format!(
                    "nobody may use {path}; write a [[http.route]] with path = \"{path}\", or with \
                     one above it"
                ));
            }
            if let Some((other, _)) = seen.iter().find(|(_, known)| known.clashes_with(route)) {
                wrong(&format!("function \"{other}\" answers {route} as well"));
            }
            seen.push((&settings_of.name, route));
        }
    }
}

/// The routes of a function.
pub(super) fn of_function(section: &Section<'_>, out: &mut Mistakes) -> Vec<HttpRoute> {
    let mut found = Vec::new();
    for (spot, text) in words(section, &function::ROUTES, out) {
        match HttpRoute::parse(&text) {
            Ok(route) => found.push(route),
            Err(error) => spot.wrong(out, &error.to_string()),
        }
    }
    found
}
