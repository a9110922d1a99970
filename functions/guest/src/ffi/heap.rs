//! A small allocator for modules without std.
//!
//! Blocks are powers of two, from 16 bytes on; each size has a list of free ones, and what no
//! list has is cut from the end of memory, which grows by pages. Blocks are never split or
//! joined: a module may hold at most twice what it ever used of each size at once, and the
//! gateway's memory limit bounds that. In return it is 0.5 KB of code where the allocator of
//! std is 5.5 KB, and its time does not depend on history.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::NonNull;

/// Log2 of the smallest block. Blocks are aligned to it, which is all that Rust's own types ask
/// for on wasm32; greater alignments are refused.
const MIN_CLASS: u32 = 4;
/// One list for each size up to 2 GiB.
const CLASSES: usize = 32 - MIN_CLASS as usize;

/// Where a heap gets its bytes from.
pub(super) trait Source {
    /// The bytes that nobody uses yet, as first and end address; asked once.
    fn initial(&self) -> (usize, usize);
    /// More bytes, at least so many, as first and end address.
    fn more(&self, bytes: usize) -> Option<(usize, usize)>;
    /// Ends the program when there are none. A null pointer would do that later, and the compiler
    /// would add the text for it, with numbers, to each module.
    fn exhausted(&self) -> !;
}

/// The heap of a module.
pub(super) struct Heap<S> {
    source: S,
    inner: UnsafeCell<Inner>,
}

struct Inner {
    /// Free blocks by size, each holding the address of the next one; 0 = none.
    free: [usize; CLASSES],
    /// What has not been cut into blocks yet.
    next: usize,
    end: usize,
}

// SAFETY: wasm32-unknown-unknown without the atomics feature has one thread.
unsafe impl<S> Sync for Heap<S> {}

impl<S> Heap<S> {
    pub(super) const fn new(source: S) -> Self {
        let inner = Inner { free: [0; CLASSES], next: 0, end: 0 };
        Self { source, inner: UnsafeCell::new(inner) }
    }
}

/// Index of the list for blocks of a size above zero; their bytes are `1 << MIN_CLASS << index`.
fn class(size: usize) -> usize {
    let last = size.wrapping_sub(1) | ((1 << MIN_CLASS) - 1);
    (usize::BITS - MIN_CLASS - last.leading_zeros()) as usize
}

// SAFETY: blocks do not overlap: each is cut once from [next, end), which only shrinks or moves
// to fresh bytes of the source, and is in at most one place, a free list or the program. Every
// block has at least the size asked for and is aligned to 16 bytes.
unsafe impl<S: Source> GlobalAlloc for Heap<S> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.block(layout).as_ptr()
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let class = class(layout.size());
        // SAFETY: one thread, and nothing in here allocates: the only reference.
        let inner = unsafe { &mut *self.inner.get() };
        let Some(free) = inner.free.get_mut(class) else { return };
        // SAFETY: the block is the program's to give back, aligned and at least 16 bytes.
        unsafe { *(block as *mut usize) = *free };
        *free = block as usize;
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if class(layout.size()) == class(new_size) {
            return block;
        }
        // SAFETY: the caller promises a size that makes a layout.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: as for alloc; the caller promises a size above zero.
        let new = unsafe { self.alloc(new_layout) };
        // SAFETY: two blocks, each of at least the bytes copied.
        unsafe { core::ptr::copy_nonoverlapping(block, new, layout.size().min(new_size)) };
        // SAFETY: the caller gives up the old block.
        unsafe { self.dealloc(block, layout) };
        new
    }
}

impl<S: Source> Heap<S> {
    /// Not inlined: the type of its result is how the compiler knows that no caller has to think of
    /// null.
    #[inline(never)]
    fn block(&self, layout: Layout) -> NonNull<u8> {
        if layout.align() > 1 << MIN_CLASS || layout.size() > 1 << 30 {
            self.source.exhausted();
        }
        let class = class(layout.size());
        let bytes = 1 << MIN_CLASS << class;
        // SAFETY: one thread, and nothing in here allocates: the only reference.
        let inner = unsafe { &mut *self.inner.get() };
        if let Some(free) = inner.free.get_mut(class)
            && let Some(block) = NonNull::new(*free as *mut u8)
        {
            // SAFETY: a block in a free list holds the address of the next one.
            *free = unsafe { *(block.as_ptr() as *const usize) };
            return block;
        }
        match NonNull::new(inner.cut(bytes, &self.source)) {
            Some(block) => block,
            None => self.source.exhausted(),
        }
    }
}

impl Inner {
    fn cut(&mut self, bytes: usize, source: &impl Source) -> *mut u8 {
        if self.end == 0 {
            (self.next, self.end) = source.initial();
            self.align();
        }
        if self.end.saturating_sub(self.next) < bytes {
            let Some((first, end)) = source.more(bytes + (1 << MIN_CLASS)) else {
                source.exhausted();
            };
            // What is left before a gap is lost; without a gap it is the start of the block.
            if first != self.end {
                self.next = first;
                self.align();
            }
            self.end = end;
        }
        let block = self.next;
        self.next += bytes;
        block as *mut u8
    }

    fn align(&mut self) {
        let mask = (1 << MIN_CLASS) - 1;
        self.next = (self.next + mask) & !mask;
    }
}

#[cfg(test)]
mod tests {
    use super::{Heap, Source};
    use core::alloc::{GlobalAlloc, Layout};
    use core::cell::{Cell, RefCell};
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    /// Memory that grows in pieces of 4 KiB up to a limit, with a gap now and then.
    struct Pieces {
        memory: RefCell<Vec<u128>>,
        used: Cell<usize>,
    }

    impl Pieces {
        fn new(bytes: usize) -> Self {
            Self { memory: RefCell::new(vec![0; bytes / 16]), used: Cell::new(0) }
        }

        fn give(&self, bytes: usize) -> Option<(usize, usize)> {
            let start = self.memory.borrow_mut().as_mut_ptr() as usize;
            let gap = if self.used.get().is_multiple_of(3) { 40 } else { 0 };
            let first = self.used.get() + gap;
            let end = first + bytes.next_multiple_of(4096);
            if end > self.memory.borrow().len() * 16 {
                return None;
            }
            self.used.set(end);
            Some((start + first, start + end))
        }
    }

    impl Source for Pieces {
        fn initial(&self) -> (usize, usize) {
            self.give(100).unwrap()
        }

        fn more(&self, bytes: usize) -> Option<(usize, usize)> {
            self.give(bytes)
        }

        fn exhausted(&self) -> ! {
            panic!("nothing left");
        }
    }

    struct Held {
        block: *mut u8,
        layout: Layout,
        mark: u8,
    }

    impl Held {
        fn assert_untouched(&self) {
            assert_eq!(self.block as usize % 16, 0);
            for at in 0..self.layout.size() {
                // SAFETY: the heap gave out that many bytes.
                assert_eq!(unsafe { *self.block.add(at) }, self.mark, "byte {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn blocks_keep_their_bytes_whatever_else_is_allocated(
            steps in prop::collection::vec((0u8..4, 1usize..5000, 0usize..8), 1..200)
        ) {
            let heap = Heap::new(Pieces::new(8 << 20));
            let mut held: Vec<Held> = Vec::new();
            for (mark, (kind, size, which)) in steps.into_iter().enumerate() {
                let mark = mark as u8;
                let layout = Layout::from_size_align(size, 8).unwrap();
                if kind < 2 || held.is_empty() {
                    // SAFETY: the size is above zero.
                    let block = unsafe { heap.alloc(layout) };
                    // SAFETY: the heap gave out that many bytes.
                    unsafe { block.write_bytes(mark, size) };
                    held.push(Held { block, layout, mark });
                    continue;
                }
                let at = which % held.len();
                let mut old = held.swap_remove(at);
                old.assert_untouched();
                if kind == 2 {
                    // SAFETY: it was allocated with this layout and is not used again.
                    unsafe { heap.dealloc(old.block, old.layout) };
                    continue;
                }
                let kept = old.layout.size().min(size);
                // SAFETY: it was allocated with this layout; the size is above zero.
                let block = unsafe { heap.realloc(old.block, old.layout, size) };
                old = Held { block, layout: Layout::from_size_align(kept, 8).unwrap(), mark: old.mark };
                old.assert_untouched();
                // SAFETY: the heap gave out that many bytes.
                unsafe { block.write_bytes(mark, size) };
                held.push(Held { block, layout, mark });
            }
            held.iter().for_each(Held::assert_untouched);
        }
    }

    #[test]
    fn a_freed_block_is_used_again() {
        let heap = Heap::new(Pieces::new(1 << 16));
        let layout = Layout::from_size_align(1000, 8).unwrap();
        for _ in 0..10_000 {
            // SAFETY: the size is above zero.
            let block = unsafe { heap.alloc(layout) };
            // SAFETY: it was allocated with this layout and is not used again.
            unsafe { heap.dealloc(block, layout) };
        }
    }

    #[test]
    #[should_panic(expected = "nothing left")]
    fn a_dry_source_ends_the_program() {
        let heap = Heap::new(Pieces::new(1 << 14));
        // SAFETY: the size is above zero.
        unsafe { heap.alloc(Layout::from_size_align(1 << 20, 8).unwrap()) };
    }

    #[test]
    #[should_panic(expected = "nothing left")]
    fn an_odd_alignment_ends_the_program() {
        let heap = Heap::new(Pieces::new(1 << 14));
        // SAFETY: the size is above zero.
        unsafe { heap.alloc(Layout::from_size_align(64, 64).unwrap()) };
    }
}
