//! The configuration that `tidegate init` writes: every key there is, with its default, its
//! range and its meaning, and only those set that a first start needs.

use super::keys::{
    Fallback, Key, SECTIONS, SectionKeys, acl, folder, function, gateway, limits, line, listener,
    mqtt, route, stream, tls, uplink,
};

const WIDTH: usize = 96;

const HEADER: &str = "\
# Tidegate configuration.
#
#   tidegate check --config tidegate.toml    finds every mistake
#   tidegate run --config tidegate.toml      starts the gateway
#
# A line that starts with # and a key shows the default: remove the # to change it. Sizes and
# times carry their unit (\"64MiB\", \"30s\"). Relative paths count from this file's directory.
# More than fits here, such as the kinds of uplinks, is in docs/configuration.md.
";

/// Example names of the named sections, and the sections that start as comments.
const EXAMPLES: &[(&str, &str, bool)] = &[
    (listener::SECTION.name, "plant", false),
    (tls::SECTION.name, "", false),
    (acl::SECTION.name, "", false),
    (limits::SECTION.name, "", false),
    (line::SECTION.name, "plant", false),
    (route::SECTION.name, "", false),
    (stream::SECTION.name, "telemetry", true),
    (folder::SECTION.name, "reports", false),
    (function::SECTION.name, "threshold", false),
    (uplink::SECTION.name, "cloud", false),
];

/// The text of a starter configuration.
pub fn starter() -> String {
    let mut text = HEADER.to_owned();
    for section in SECTIONS {
        text.push('\n');
        write_section(section, &mut text);
    }
    text
}

fn write_section(section: &SectionKeys, text: &mut String) {
    let example = EXAMPLES.iter().find(|(name, _, _)| *name == section.name);
    let (header, active) = match example {
        Some((_, example, active)) => (section.header().replace("NAME", example), *active),
        None => (section.header(), true),
    };
    text.push_str(if active { "" } else { "# " });
    text.push_str(&header);
    text.push('\n');
    for key in section.keys {
        write_key(section, key, active, text);
    }
}

fn write_key(section: &SectionKeys, key: &Key, active: bool, text: &mut String) {
    // What the reference tells above its tables is not here.
    let about = key.about.replace(", see above", "").replace("; the kinds are above", "");
    let meaning = format!("{about} Allowed: {}.", key.kind.allowed());
    for line in wrapped(&meaning) {
        text.push_str("#   ");
        text.push_str(&line);
        text.push('\n');
    }
    let set = match (&key.fallback, section.name, key.name) {
        (_, name, key) if name == gateway::SECTION.name && key == gateway::DATA_DIR.name => {
            r#"data_dir = "data""#.to_owned()
        }
        (_, name, key) if name == function::SECTION.name && key == function::INPUT.name => {
            function::INPUT_EXAMPLE.to_owned()
        }
        (Fallback::Required(example), _, _) => (*example).to_owned(),
        (Fallback::Value(literal), _, name) => format!("{name} = {literal}"),
        (Fallback::Absent(meaning), _, name) => format!("{name} = ... (default: {meaning})"),
    };
    let needed = matches!(key.fallback, Fallback::Required(_))
        || (section.name == mqtt::SECTION.name && key.name == mqtt::LISTEN.name);
    text.push_str(if active && needed { "" } else { "# " });
    text.push_str(&set);
    text.push('\n');
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let full = lines.last().is_some_and(|line| line.len() + word.len() + 1 > WIDTH - 4);
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines
}
