//! The data plane protocol.
