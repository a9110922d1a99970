//! File descriptors: each client takes one, and the store must never lack any, because a log that
//! cannot open its next segment acknowledges nothing.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for everything that is no MQTT client: the store's files, HTTP and administration with
/// their clients, uplinks, threads' wake-ups, and clients that are just being turned away.
const RESERVE: u64 = 256;

/// Raises the limit of the process so that `connections` fit, as far as it may be raised. Returns
/// how many fit, at least one.
pub(crate) fn make_room(connections: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = RESERVE + connections as u64;
    let Some(raised) = raised(&limit, wanted) else { return connections };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the number of open files");
            limit.current
        }
    };
    let fit = fitting(allowed, connections);
    if fit < connections {
        tracing::warn!(
            fit,
            connections,
            "fewer MQTT connections than configured: the system allows this process {} open \
             files, and {wanted} are needed; raise the limit (LimitNOFILE= in a systemd unit)",
            allowed.unwrap_or(u64::MAX),
        );
    }
    fit
}

/// The limit to set; `None` when the present one is enough.
fn raised(limit: &Rlimit, wanted: u64) -> Option<Rlimit> {
    let current = limit.current.filter(|current| *current < wanted)?;
    let raised = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)).max(current);
    Some(Rlimit { current: Some(raised), maximum: limit.maximum })
}

fn fitting(allowed: Option<u64>, connections: usize) -> usize {
    let Some(allowed) = allowed else { return connections };
    // Where even the reserve is not there, half is better than nothing.
    let room = allowed.saturating_sub(RESERVE).max(allowed / 2).max(1);
    connections.min(usize::try_from(room).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_as_far_as_needed_and_allowed() {
        let limit = |current, maximum| Rlimit { current: Some(current), maximum };
        assert_eq!(raised(&limit(2000, Some(3000)), 1280), None);
        assert_eq!(raised(&limit(1024, Some(3000)), 1280).unwrap().current, Some(1280));
        assert_eq!(raised(&limit(1024, None), 1280).unwrap().current, Some(1280));
        assert_eq!(raised(&limit(1024, Some(1100)), 1280).unwrap().current, Some(1100));
        assert_eq!(raised(&Rlimit { current: None, maximum: None }, 1280), None);
    }

    #[test]
    fn connections_leave_the_reserve_to_the_store() {
        assert_eq!(fitting(None, 1024), 1024);
        assert_eq!(fitting(Some(1280), 1024), 1024);
        assert_eq!(fitting(Some(1024), 1024), 768);
        assert_eq!(fitting(Some(256), 1024), 128);
        assert_eq!(fitting(Some(0), 1024), 1);
    }
}
