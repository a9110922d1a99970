//! A port for the example of the documentation, which nobody is at the other end of.

use core::convert::Infallible;

use embedded_io::{ErrorType, Read, ReadReady, Write};

/// It takes everything, and gives nothing.
#[derive(Debug, Default)]
pub struct Uart(());

impl ErrorType for Uart {
    type Error = Infallible;
}

impl Read for Uart {
    fn read(&mut self, _: &mut [u8]) -> Result<usize, Infallible> {
        Ok(0)
    }
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(false)
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
