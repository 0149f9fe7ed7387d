//! Memory that holds code which is not needed again soon.
//!
//! One of the few places of the crate with `unsafe` code; a test reads the sources for that.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use nix::libc::c_void;
use nix::sys::mman::{MmapAdvise, madvise};
use nix::unistd::{SysconfVar, sysconf};

unsafe extern "C" {
    /// The first byte of this program in memory: the linker defines it.
    #[link_name = "__executable_start"]
    safe static FIRST: u8;
    /// The first byte behind the code. All before it is constant, and never written.
    #[link_name = "etext"]
    safe static END: u8;
}

/// Unmaps the program's code and constants from this process; what is used again is mapped again, 64 kB at a time, from
/// the same file.
///
/// A process that waits needs little of its code, and has mapped most of it by then: it has read a configuration, opened
/// sockets and confined itself. The kernel keeps the pages in its cache as long as there is room.
pub(super) fn release_code() {
    let Ok(Some(page)) = sysconf(SysconfVar::PAGE_SIZE) else { return };
    let Ok(page) = usize::try_from(page) else { return };
    let (first, end) = (&raw const FIRST, &raw const END);
    // The page in which the code ends may also be the first of the data.
    let bytes = (end.addr() / page).saturating_sub(first.addr() / page) * page;
    let Some(first) = NonNull::new(first.cast_mut().cast::<c_void>()) else { return };
    // SAFETY: the linker places the program's header at `first`, at the start of a page. From there to `end` there is
    // nothing but constants and code, in private mappings of the file that are never written to, so that every page
    // that is dropped has the same content when it is read again.
    let _ = unsafe { madvise(first, bytes, MmapAdvise::MADV_DONTNEED) };
}
