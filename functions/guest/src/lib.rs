//! What function authors import.
