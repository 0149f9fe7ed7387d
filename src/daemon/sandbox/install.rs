//! Hands a list of system calls to the kernel: the one call of the sandbox that no crate makes for all our machines.
//! (`seccompiler` is empty on big-endian ones.)
#![allow(unsafe_code)]

use std::io;

use nix::errno::Errno;
use nix::libc::{self, sock_filter, sock_fprog};

use crate::filter::bpf::Instruction;

/// From here on the kernel asks this program about each system call of this thread, and of those that it starts. It must
/// have given up new privileges.
///
/// # Errors
/// What the operating system says: `EINVAL` of a kernel without seccomp, or for a program that is none.
pub(super) fn install(program: &[Instruction]) -> io::Result<()> {
    let mut program: Vec<sock_filter> =
        program.iter().map(|&Instruction { code, jt, jf, k }| sock_filter { code, jt, jf, k }).collect();
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: the program has as many instructions as it says; the kernel copies them, and keeps no pointer.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    Errno::result(result).map(drop).map_err(io::Error::from)
}
