//! Memory that is there from the start, so that it is counted.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

/// Static memory for one value, without contents at first.
#[derive(Debug)]
pub struct Place<T>(UnsafeCell<MaybeUninit<T>>);

// SAFETY: there is one thread, and no interrupt.
unsafe impl<T> Sync for Place<T> {}

impl<T> Place<T> {
    /// Room for a value.
    #[must_use]
    pub const fn new() -> Place<T> {
        Place(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// Puts the value there. Call it once.
    pub fn put(&'static self, value: T) -> &'static mut T {
        // SAFETY: called once, so that this is the only reference.
        unsafe { (*self.0.get()).write(value) }
    }
}

impl<T> Default for Place<T> {
    fn default() -> Place<T> {
        Place::new()
    }
}
