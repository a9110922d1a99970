//! A device on a serial line that takes firmware, with the curve and hash of a library.

use tidegate_agent::{Agent, Millis, Next};
use tidegate_link::{Config, Link, Micros, Role};
use tidegate_wire::crypto::Crypto;
use tidegate_wire::message::{CHANNEL, Reason};

use crate::board::Board;
use crate::device;
use crate::place::Place;

/// The link of these programs: frames of 256 bytes, four of them on their way in, one out.
pub type Serial = Link<256, 4, 1280, 1>;

/// The link, opened.
pub fn link(board: &Board, place: &'static Place<Serial>) -> &'static mut Serial {
    let link = place.take();
    link.open(Config::new(Role::Device, 1), board.clock.millis());
    link
}

/// The agent, which has not looked at the flash yet.
pub fn agent<C: Crypto>(board: &Board, crypto: C) -> Agent<'static, C> {
    Agent::new(Millis(board.clock.millis()), &device::CONFIG, crypto, Reason::Power)
}

/// Carries messages until the device has to start again, or its flash has failed.
pub fn run<C: Crypto>(board: &mut Board, link: &mut Serial, agent: &mut Agent<'static, C>) {
    if agent.begin(Millis(board.clock.millis()), &mut board.nor).is_err() {
        return;
    }
    agent.self_test(true);
    let mut line = [0; 300];
    loop {
        let millis = board.clock.millis();
        let now = Micros(millis * 1_000);
        while let Some(byte) = board.port.read() {
            link.handle_input(now, &[byte]);
        }
        if let Some(message) = link.receive()
            && message.channel == CHANNEL
            && agent.handle_message(Millis(millis), &mut board.nor, message.bytes).is_err()
        {
            return;
        }
        if let Ok(Some(length)) = agent.poll_output(Millis(millis), &mut board.nor, &mut line) {
            let _ = link.send(CHANNEL, &line[..length]); // What is lost is said again.
        }
        match agent.poll(Millis(millis), &mut board.nor) {
            Ok(Next::Work | Next::Wait(_)) => {}
            Ok(Next::Restart) | Err(_) => return,
        }
        loop {
            let length = link.poll_output(now, &mut line);
            if length == 0 {
                break;
            }
            for byte in line.get(..length).unwrap_or_default() {
                board.port.write(*byte);
            }
        }
    }
}
