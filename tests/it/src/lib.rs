//! Process tests: real sockets, real brokers, SIGKILL.
