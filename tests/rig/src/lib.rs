//! Test rig: embedded cloud, cuttable proxy, sensors, the demo.
