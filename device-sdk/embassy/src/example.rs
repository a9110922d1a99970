//! A port and a clock for the example of the documentation, which nobody is at the other end of.

use core::cell::Cell;
use core::convert::Infallible;
use core::future::Future;

use embedded_io_async::{ErrorType, Read, Write};
use tidegate_link::Micros;

use crate::timer::Timer;

/// It takes everything, and gives nothing.
#[derive(Debug, Default)]
pub struct Uart(());

impl ErrorType for Uart {
    type Error = Infallible;
}

impl Read for Uart {
    async fn read(&mut self, _: &mut [u8]) -> Result<usize, Infallible> {
        core::future::pending().await
    }
}

impl Write for Uart {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Whoever waits finds that it is time.
#[derive(Debug, Default)]
pub struct Clock(Cell<u64>);

impl Timer for Clock {
    fn now(&self) -> Micros {
        Micros(self.0.get())
    }

    fn wait_until(&self, at: Micros) -> impl Future<Output = ()> {
        self.0.set(self.0.get().max(at.0));
        core::future::ready(())
    }
}
