//! The sensor on a network: MQTT over TCP, through the emulator's own network to a real gateway.

use std::time::{Duration, Instant};

use tidegate_boot::Outcome;
use tidegate_device_sim::random::Random;
use tidegate_rig::scratch::Scratch;

use super::cuts::{CUTS, Step, Tally, check_image};
use super::device::{Device, Firmware, Wiring};
use super::model::Model;
use super::{
    CONFIG, Release, Site, Subscriber, check_time, command, field, prepare, signed, stored_ids,
};
use crate::setup::{PATIENCE, beside_others, explain, threshold, wait};

/// Between two looks at the flash.
const LOOK: Duration = Duration::from_micros(200);

fn site(firmware: &Firmware) -> Site {
    let scratch = Scratch::new("networked").unwrap();
    let mut gateway = prepare(&(CONFIG.to_owned() + &threshold("")));
    gateway.start().unwrap();
    let wiring = Wiring::Network(gateway.mqtt());
    let mut device = Device::new(firmware, &scratch, "net-1", wiring);
    device.start();
    Site { device, gateway, scratch, class: "23232323-2323-2323-2323-232323232323" }
}

#[test]
fn a_sensor_in_qemu_speaks_mqtt_over_tcp_and_loses_nothing_while_the_gateway_is_gone() {
    let Some(firmware) = Firmware::find(Model::Arm) else { return };
    let _machine = beside_others();
    let Site { device: _device, mut gateway, scratch: _scratch, .. } = site(&firmware);
    let telemetry = "sensors/pump-7/telemetry";
    let messages = Subscriber::new(&gateway);
    let first = messages.next(&gateway, telemetry, |_| true);
    assert_eq!(field(&first, "firmware"), "1.0.0");
    // Without its fan it gets hotter, until the function raises an alert.
    let alert = messages.next(&gateway, "alerts/pump-7", |_| true);
    assert!(field(&alert, "value").as_f64() > Some(30.0), "{alert}");
    // The time is the gateway's, once the gateway has answered.
    check_time(&messages, &gateway);
    command(&gateway, "on");
    assert_eq!(messages.next(&gateway, "replies/desk", |_| true), "done");
    let cooling = messages.next(&gateway, telemetry, |payload| payload.contains("true"));

    gateway.kill().unwrap();
    gateway.start().unwrap();
    let again = Subscriber::new(&gateway);
    let id = |payload: &str| field(payload, "id").as_u64();
    let after = again.next(&gateway, telemetry, |payload| id(payload) > id(&cooling));
    let last = id(&after).unwrap();
    wait(&gateway, "all readings are in the stream", || {
        let ids = stored_ids(&gateway);
        (0..=last).all(|id| ids.contains(&id))
    });
    command(&gateway, "nonsense");
    again.next(&gateway, "replies/desk", |payload| payload == "there is no such command");
}

#[test]
fn the_gateway_brings_firmware_over_tcp_to_a_sensor_in_qemu_and_a_bad_one_goes_back() {
    let Some(firmware) = Firmware::find(Model::Arm) else { return };
    let _machine = beside_others();
    let images = ["net-1", "net-2", "net-unwell"].map(|name| firmware.image(name));
    super::takes_a_release_and_gives_a_bad_one_back(site(&firmware), images);
}

/// A sensor that is upgraded from one of two images to the other, again and again.
struct Shuttle {
    site: Site,
    images: [Vec<u8>; 2],
    /// Of the release that is under way.
    sequence: u64,
}

impl Shuttle {
    fn leaving(&self) -> &[u8] {
        &self.images[(self.sequence as usize + 1) % 2]
    }

    fn coming(&self) -> &[u8] {
        &self.images[self.sequence as usize % 2]
    }

    fn push_next(&mut self) {
        self.sequence += 1;
        let version = format!("{}.0.0", self.sequence);
        let release = Release {
            image: self.coming(),
            base: None,
            version: &version,
            sequence: self.sequence,
            attempts: 10,
        };
        let bundle = signed(&self.site, &release);
        let push = ["device", "firmware", "push", bundle.to_str().unwrap()];
        self.site.gateway.command(&push).unwrap();
    }

    fn wait_until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let give_up = Instant::now() + PATIENCE;
        while !done() {
            std::thread::sleep(LOOK);
            let (device, gateway) = (&self.site.device, &self.site.gateway);
            assert!(
                Instant::now() < give_up,
                "never: {what}; {:?}\n{}\n{}",
                device.state(),
                device.console(),
                explain(gateway)
            );
        }
    }

    /// Waits until the device has been in a step for so long; false when the upgrade has ended before.
    fn wait_for(&self, step: Step, delay: Duration) -> bool {
        let mut began = None;
        self.wait_until("the moment to cut", || {
            if began.is_none() && self.site.device.step() == step {
                began = Some(Instant::now());
            }
            self.has_ended() || began.is_some_and(|began| began.elapsed() >= delay)
        });
        began.is_some()
    }

    fn has_ended(&self) -> bool {
        let state = self.site.device.state();
        let confirmed = state.outcome == Outcome::Confirmed && state.reported;
        confirmed && state.sequence == self.sequence
    }

    fn complete(&self) {
        self.wait_until("the upgrade completes", || self.has_ended());
        assert!(self.site.device.runs(self.coming()));
    }
}

#[test]
fn firmware_over_tcp_survives_60_power_cuts_and_the_upgrades_complete() {
    let Some(firmware) = Firmware::find(Model::Arm) else { return };
    let _machine = beside_others();
    // The release of sequence 1 is the second image.
    let images = ["net-1", "net-2"].map(|name| firmware.image(name));
    let mut shuttle = Shuttle { site: site(&firmware), images, sequence: 0 };
    let (mut random, mut tally) = (Random::new(0x7e57), Tally::default());
    shuttle.push_next();
    while tally.count() < CUTS {
        let step = tally.next();
        let delay = tally.moment(step, &mut random);
        if !shuttle.wait_for(step, delay) {
            shuttle.complete();
            shuttle.push_next();
            continue;
        }
        shuttle.site.device.cut();
        tally.note(step, shuttle.site.device.step());
        // Whatever was going on: an image that is whole starts.
        shuttle.site.device.start();
        let runs = |device: &Device| device.console().contains("sensor: ");
        shuttle.wait_until("a start", || runs(&shuttle.site.device));
        check_image(&shuttle.site.device, shuttle.leaving(), shuttle.coming(), shuttle.sequence);
        if shuttle.site.device.state().attempts == 1 {
            shuttle.complete();
            shuttle.push_next();
        }
    }
    shuttle.complete();
    println!("{} upgrades completed", shuttle.sequence);
    tally.check();
}
