//! What pages have of configurations and manifests: `tidegate check`, or `fn pack`, must take each. Most are parts, which
//! get beside them what they speak of.

use super::EXAMPLES;
use super::page::{Book, Script};
use anyhow::Result;

const REFERENCE: &str = "docs/configuration.md";

/// A gateway that lacks nothing but what a page is about.
const GATEWAY: &str = "[gateway]\nid = \"gw-01\"\ndata_dir = \"data\"\n";
const MQTT: &str = "[mqtt]\nlisten = \"127.0.0.1:1883\"\n";
const TELEMETRY: &str = "[stream.telemetry]\ntopics = [\"sensors/#\"]\n";

/// Page, how the block begins, and what stands behind it: where it begins with a key, in the block's last table.
const PARTS: &[(&str, &str, &[&str])] = &[
    (REFERENCE, "[gateway]", &[]),
    (
        REFERENCE,
        "[http]\nroutes_listen",
        &[GATEWAY, MQTT, "users_file = \"users\"\n[[mqtt.acl]]\ntopics = [\"#\"]\n", TELEMETRY],
    ),
    (REFERENCE, "[files.reports]", &[GATEWAY, MQTT]),
    (
        REFERENCE,
        "[function.normalise]",
        &[
            GATEWAY,
            MQTT,
            TELEMETRY,
            "key = \"topic/1\"\n[stream.orders]\ntopics = [\"orders/#\"]\nkey = \"topic/1\"\n",
        ],
    ),
    (REFERENCE, "[function.report]", &[GATEWAY, MQTT]),
    (REFERENCE, "[function.dashboard]", &[GATEWAY, MQTT, TELEMETRY, LIMITS]),
    (REFERENCE, "[uplink.aws]", &[GATEWAY, MQTT, TELEMETRY]),
    ("docs/formats/events.md", "[stream.audit]", &[GATEWAY, MQTT]),
    (
        "docs/guides/function-author.md",
        "gateway.toml",
        &["module = \"threshold.wasm\"\n", GATEWAY, MQTT],
    ),
    ("functions/examples/anomaly/README.md", "[function.anomaly]", &[GATEWAY, MQTT, TELEMETRY]),
    ("functions/examples/deadband/README.md", "[stream.levels]", &[GATEWAY, MQTT]),
    ("functions/examples/downsample/README.md", "[stream.telemetry]", &[GATEWAY, MQTT]),
    ("functions/examples/enrich/README.md", "[stream.telemetry]", &[GATEWAY, MQTT]),
    ("functions/examples/modbus/README.md", "[stream.registers]", &[GATEWAY, MQTT]),
    ("functions/examples/normalise/README.md", "[function.normalise]", &[GATEWAY, MQTT, TELEMETRY]),
    (EXAMPLES[1], "[function.threshold]", &[GATEWAY, MQTT, TELEMETRY]),
    ("functions/examples/vibration/README.md", "[stream.samples]", &[GATEWAY, MQTT]),
    ("functions/templates/common/README.md", "[function.{{name}}]", &[GATEWAY, MQTT, TELEMETRY]),
];

const LIMITS: &str =
    "[function.limits]\nmodule = \"limits.wasm\"\ninput = { stream = \"telemetry\" }\n";

/// Manifests of packages.
const MANIFESTS: &[(&str, &str)] = &[
    ("docs/commands.md", "name = \"threshold\""),
    ("docs/formats/function-tests.md", "name = \"threshold\""),
];

/// Checks all of them, each in a folder of its own.
pub(super) fn configurations(book: &Book) -> Result<Script<'_>> {
    let mut script = Script::new(book);
    script.add(
        r#"begin() {
    mkdir "$PLACE/$1"
    cd "$PLACE/$1"
    cp "$PLACE"/home/tidegate/target/functions/*.wasm .
    # Functions that no example has.
    for name in limits parse report dashboard; do cp threshold.wasm $name.wasm; done
    echo 'a password' | tidegate mqtt passwd ann --file users
    tidegate http token panel --file tokens > token
    cp "$PLACE"/cert.pem AmazonRootCA1.pem
    cp "$PLACE"/cert.pem gateway.pem.crt
    cp "$PLACE"/key.pem gateway.pem.key
}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -subj /CN=gw \
    -keyout key.pem -out cert.pem"#,
    );
    for (number, (page, begins, behind)) in PARTS.iter().enumerate() {
        script.add(&format!("begin {number}"));
        script.append(page, begins, "tidegate.toml")?;
        let behind = behind.concat();
        script.add(&format!("cat >> tidegate.toml <<'END'\n{behind}END\nsed -i 's/{{{{name}}}}/threshold/g' tidegate.toml"));
        script.add("tidegate check --config tidegate.toml");
    }
    for (number, (page, begins)) in MANIFESTS.iter().enumerate() {
        script.add(&format!("begin manifest-{number}"));
        script.append(page, begins, "function.toml")?;
        script.add("tidegate fn keygen team.key\ntidegate fn pack . --key team.key");
    }
    Ok(script)
}
