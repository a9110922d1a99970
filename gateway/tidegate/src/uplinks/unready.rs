//! An uplink whose certificate, key or credential cannot be read: at boot it may not be there yet.
//! The gateway runs without it and looks again at each attempt to connect.

use std::path::PathBuf;

use tidegate_flow::Setback;
use tidegate_uplink::{Action, UplinkEvent};
use tokio::sync::mpsc::Receiver;

use super::Target;
use crate::config;

/// See the module.
#[derive(Clone, Debug)]
pub struct Unready {
    /// The configuration, which is read again.
    pub config: PathBuf,
    /// NAME of the uplink there.
    pub uplink: String,
    /// How many servers it has.
    pub endpoints: usize,
    /// Whether the boundaries of a batch must be durable before it is sent.
    pub sealed: bool,
    /// What follows when its server holds less than it acknowledged.
    pub setback: Setback,
    /// What cannot be read, for the operator.
    pub why: String,
}

impl Unready {
    /// As [`Target::run`]: every connection fails with the reason, until everything can be read.
    pub(super) async fn run(
        mut self,
        lanes: Vec<String>,
        mut actions: Receiver<Action>,
        events: impl Fn(UplinkEvent),
    ) {
        while let Some(action) = actions.recv().await {
            let session = match action {
                Action::Connect { session, .. } => session,
                // Of sessions that never began.
                Action::Disconnect { .. }
                | Action::Send { .. }
                | Action::Seal { .. }
                | Action::Advance { .. }
                | Action::Reject { .. } => continue,
            };
            match config::target_of(&self.config, &self.uplink) {
                Ok(Target::Unready(still)) => self.why = still.why,
                Ok(target) => {
                    // The session has no driver yet: the next one has.
                    let why = "its files can be read now".to_owned();
                    events(UplinkEvent::Disconnected { session, why });
                    return target.run(lanes, actions, events).await;
                }
                Err(why) => self.why = why,
            }
            events(UplinkEvent::Disconnected { session, why: self.why.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::sync::mpsc;
    use tokio::task::LocalSet;

    use super::*;
    use crate::scratch::Scratch;

    const KEYS: &str = "ca_file = \"ca.pem\"\nstreams = [\"s\"]\n";

    fn write_config(directory: &Path) -> PathBuf {
        let file = directory.join("tidegate.toml");
        let url = "url = \"mqtts://127.0.0.1:1\"";
        let text = format!(
            "[gateway]\nid = \"gw\"\ndata_dir = \"data\"\n[stream.s]\ntopics = [\"s/#\"]\n\
             [uplink.cloud]\n{url}\n{KEYS}"
        );
        std::fs::write(&file, text).unwrap();
        file
    }

    #[test]
    fn a_gateway_starts_without_a_certificate_and_the_check_reports_it() {
        let scratch = Scratch::new();
        let file = write_config(scratch.path());
        let settings = config::load(&file).unwrap();
        assert!(matches!(settings.uplinks[0].target, Target::Unready(_)));
        assert_eq!(settings.uplinks[0].target.endpoints(), 1);
        let mistakes = config::check(&file).unwrap_err().to_string();
        assert!(mistakes.contains("uplink.cloud.ca_file"), "{mistakes}");
        assert!(mistakes.contains("cannot be read"), "{mistakes}");
    }

    #[test]
    fn each_attempt_says_what_is_missing_and_the_first_after_it_came_uses_it() {
        let scratch = Scratch::new();
        let file = write_config(scratch.path());
        let target = config::target_of(&file, "cloud").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let (actions, taken) = mpsc::channel(8);
            let (report, mut events) = mpsc::unbounded_channel();
            let heard = move |event| report.send(event).unwrap();
            tokio::task::spawn_local(target.run(vec!["s".to_owned()], taken, heard));
            let mut attempt = async |session| {
                actions.send(Action::Connect { session, endpoint: 0 }).await.unwrap();
                match events.recv().await.unwrap() {
                    UplinkEvent::Disconnected { session: of, why } if of == session => why,
                    other => panic!("{other:?}"),
                }
            };
            for session in 1..3 {
                let why = attempt(session).await;
                assert!(why.contains("ca.pem") && why.contains("cannot be read"), "{why}");
            }
            std::fs::write(scratch.path().join("ca.pem"), CERTIFICATE).unwrap();
            let why = attempt(3).await;
            assert!(why.contains("can be read now"), "{why}");
            let why = attempt(4).await;
            assert!(why.contains("nothing listens there"), "{why}");
        });
    }

    /// Of an authority that signs nothing; its key is gone.
    const CERTIFICATE: &str = "\
        -----BEGIN CERTIFICATE-----\n\
        MIIBdjCCARugAwIBAgIUWEx06mRUD94ro35+gTR2mWOn/K4wCgYIKoZIzj0EAwIw\n\
        DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjYxMTMxNDVaGA8yMTI2MTEwMjExMzE0\n\
        NVowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABKPr\n\
        Uuhmflw8B030OaI1QL9MiH0ZfaVtNSiRTL4oSKeDk92xSaHD9iisG7Bj2bwI5HB9\n\
        SGCrYqgrpqyPhm/iVs2jUzBRMB0GA1UdDgQWBBR1XM4XDA0XUbr4gixt76A1XF9G\n\
        WDAfBgNVHSMEGDAWgBR1XM4XDA0XUbr4gixt76A1XF9GWDAPBgNVHRMBAf8EBTAD\n\
        AQH/MAoGCCqGSM49BAMCA0kAMEYCIQC5kxQG8JZ/1vbiXQ/L1depsjWMDd7a6Zey\n\
        kiqwMbZ5dAIhAIANgtM1D4kEn0KpT7PfRhG6rbktuGcMACCTVp5arFbR\n\
        -----END CERTIFICATE-----\n\
    ";
}
