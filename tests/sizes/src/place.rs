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

    /// A value from the start.
    #[must_use]
    pub const fn of(value: T) -> Place<T> {
        Place(UnsafeCell::new(MaybeUninit::new(value)))
    }

    /// The value of [`Place::of`]. Call it once, and for no other place.
    pub fn take(&'static self) -> &'static mut T {
        // SAFETY: there is a value, and this is the only reference.
        unsafe { (*self.0.get()).assume_init_mut() }
    }

    /// Builds the value and puts it there, so that it is on the stack only until then. Call it once.
    #[inline(never)]
    pub fn build(&'static self, value: impl FnOnce() -> T) -> &'static mut T {
        // SAFETY: called once, so that this is the only reference.
        unsafe { (*self.0.get()).write(value()) }
    }
}

impl<T> Default for Place<T> {
    fn default() -> Place<T> {
        Place::new()
    }
}
