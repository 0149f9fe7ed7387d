//! Gives back the memory of code that is not needed soon.
//!
//! One of the few places of the crate with `unsafe` code; a test reads the sources for that.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use nix::libc::c_void;
use nix::sys::mman::{MmapAdvise, madvise};
use nix::unistd::{SysconfVar, sysconf};

unsafe extern "C" {
    /// The first byte of this program's image, defined by the linker.
    #[link_name = "__executable_start"]
    safe static FIRST: u8;
    /// The first byte after the code, defined by the linker. Everything before it is read-only.
    #[link_name = "etext"]
    safe static END: u8;
}

/// Unmaps the program's code and constants from this process. Pages that are used again are mapped again from
/// the same file, 64 kB at a time.
///
/// A waiting process needs little of its code, but has mapped most of it by reading a configuration, opening
/// sockets and confining itself. The kernel keeps the pages in its page cache while there is memory.
pub(super) fn release_code() {
    let Ok(Some(page)) = sysconf(SysconfVar::PAGE_SIZE) else { return };
    let Ok(page) = usize::try_from(page) else { return };
    let (first, end) = (&raw const FIRST, &raw const END);
    // The last page of code may also be the first of the data.
    let bytes = (end.addr() / page).saturating_sub(first.addr() / page) * page;
    let Some(first) = NonNull::new(first.cast_mut().cast::<c_void>()) else { return };
    // SAFETY: the linker places the program's header at `first`, at the start of a page. From there to `end` there is
    // nothing but constants and code, in private mappings of the file that are never written to, so that every page
    // that is dropped has the same content when it is read again.
    let _ = unsafe { madvise(first, bytes, MmapAdvise::MADV_DONTNEED) };
}
