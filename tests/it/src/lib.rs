//! Process tests: a real `tidegate` process, real brokers, SIGKILL. The tests are one binary,
//! `tests/all`; this library holds nothing.
