//! Installs a seccomp filter: the one call of the sandbox that no crate makes for all our architectures
//! (`seccompiler` is empty on big-endian ones).
#![allow(unsafe_code)]

use std::io;

use nix::errno::Errno;
use nix::libc::{self, sock_filter, sock_fprog};

use crate::filter::bpf::Instruction;

/// Makes the kernel run this program at each system call of this thread, and of the threads and processes
/// that it starts. `no_new_privs` must be set.
///
/// # Errors
/// Errors of `prctl(2)`: `EINVAL` on a kernel without seccomp, or for an invalid program.
pub(super) fn install(program: &[Instruction]) -> io::Result<()> {
    let mut program: Vec<sock_filter> =
        program.iter().map(|&Instruction { code, jt, jf, k }| sock_filter { code, jt, jf, k }).collect();
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: the program has as many instructions as it says; the kernel copies them, and keeps no pointer.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    Errno::result(result).map(drop).map_err(io::Error::from)
}
