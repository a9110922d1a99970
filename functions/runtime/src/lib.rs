//! Runs functions in wasmi: fuel, memory, deadline.
