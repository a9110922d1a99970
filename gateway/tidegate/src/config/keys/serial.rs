//! Keys of serial lines.

/// `[serial.NAME]`
pub(crate) mod line {
    use crate::config::keys::{Fallback, Form, Key, Kind, SectionKeys};

    pub(crate) const DEVICE: Key = Key {
        name: "device",
        kind: Kind::Path,
        fallback: Fallback::Required(r#"device = "/dev/ttyUSB0""#),
        about: "The port, 8 data bits, no parity, 1 stop bit. It need not be there: it is opened when it appears, and again when it was unplugged. A path below `/dev/serial/by-id` stays the same when ports are plugged in another order.",
    };
    pub(crate) const BAUD: Key = Key {
        name: "baud",
        kind: Kind::Count { min: 1_200, max: 4_000_000 },
        fallback: Fallback::Value("115200"),
        about: "Bits a second.",
    };
    pub(crate) const DEVICES: Key = Key {
        name: "devices",
        kind: Kind::Devices { max: 254 },
        fallback: Fallback::Required(r#"devices = { "pump-7" = 1 }"#),
        about: "Who is on the line, and at which address. The name is the device's user name and must be its MQTT client identifier: `${username}` in `[[mqtt.acl]]` is it. Nobody else may have it as client identifier, unless logged in under that name.",
    };
    pub(crate) const SHARED: Key = Key {
        name: "shared",
        kind: Kind::Flag,
        fallback: Fallback::Absent("true with several devices, else false"),
        about: "Several devices hear each other (RS-485): they speak only when the gateway gives them the turn.",
    };
    pub(crate) const SECTION: SectionKeys = SectionKeys {
        name: "serial",
        form: Form::Named,
        keys: &[&DEVICE, &BAUD, &DEVICES, &SHARED],
    };
}
