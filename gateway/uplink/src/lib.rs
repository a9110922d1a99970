//! Upstream synchronisation: windows, acknowledgements, backoff, identity.
