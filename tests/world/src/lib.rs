//! Seeded simulator: clock, crashable disk, lossy network, reference model.
