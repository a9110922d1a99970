//! What a poller publishes: the registers that one request read.

use alloc::string::String;
use alloc::vec::Vec;
use tidegate_guest::json::Json;
use tidegate_guest::text::{concat, number};

/// Registers of one Modbus request at most (function codes 3 and 4).
const MAX_REGISTERS: usize = 125;

/// Registers that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    address: u32,
    registers: Vec<u16>,
}

impl Frame {
    /// Reads `{"address":0,"registers":[17257,39322]}` or `{"address":0,"registers":"4369999a"}`.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, String> {
        let json = Json::parse(payload)
            .map_err(|error| concat(&["the payload is not JSON: ", &error.text()]))?;
        let address = match json.get("address") {
            None => Some(0),
            Some(address) => address.as_f64().and_then(whole),
        };
        let address = address.ok_or("`address` is no number from 0 to 65535")?;
        let registers = json.get("registers").ok_or("the payload has no `registers`")?;
        let registers = match registers.as_str() {
            Some(digits) => from_hex(&digits),
            None => from_list(registers.text()),
        };
        let registers = registers.ok_or_else(|| {
            let example = "a list of numbers from 0 to 65535, or four hexadecimal digits for each";
            concat(&["`registers` must be ", example, ", 1 to 125 of them"])
        })?;
        Ok(Self { address: u32::from(address), registers })
    }

    /// So many registers from an address on; `None` when the frame has none of them.
    pub(crate) fn registers(&self, address: u32, count: u32) -> Result<Option<&[u16]>, String> {
        let end = self.address + self.registers.len() as u32;
        if address + count <= self.address || address >= end {
            return Ok(None);
        }
        let place = address.checked_sub(self.address).map(|at| at as usize);
        let found = place.and_then(|at| self.registers.get(at..at + count as usize));
        found.map(Some).ok_or_else(|| {
            let address = number(address.into());
            concat(&["only a part of the value at ", &address, " is in the registers"])
        })
    }
}

fn whole(value: f64) -> Option<u16> {
    // The cast saturates, so what is negative, too large or broken does not come back the same.
    let whole = value as u16;
    (f64::from(whole) == value).then_some(whole)
}

fn from_list(text: &str) -> Option<Vec<u16>> {
    let inside = text.strip_prefix('[')?.strip_suffix(']')?;
    let mut registers = Vec::new();
    for register in inside.split(',') {
        let value = Json::parse(register.as_bytes()).ok()?.as_f64().and_then(whole)?;
        registers.push(value);
    }
    fits(registers)
}

fn from_hex(digits: &str) -> Option<Vec<u16>> {
    if !digits.len().is_multiple_of(4) {
        return None;
    }
    let register = |four: &[u8]| {
        four.iter()
            .try_fold(0u16, |sum, digit| Some(sum << 4 | char::from(*digit).to_digit(16)? as u16))
    };
    fits(digits.as_bytes().chunks(4).map(register).collect::<Option<_>>()?)
}

fn fits(registers: Vec<u16>) -> Option<Vec<u16>> {
    (1..=MAX_REGISTERS).contains(&registers.len()).then_some(registers)
}
