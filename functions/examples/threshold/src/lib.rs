//! Threshold alert with hysteresis and state for each sensor.
