//! The system call numbers for the lists, on the architectures that we are built for: those of the `libc`
//! crate, and the ones it lacks.
//!
//! C libraries choose among several calls for the same purpose, also depending on the kernel version, so each
//! name here covers all of them.

use nix::libc::{self, c_long};

/// The kernel's number of this architecture in `struct seccomp_data` (linux/audit.h); `None` where we do not
/// know the system call numbers.
pub(super) const ARCHITECTURE: Option<u32> = if cfg!(all(target_arch = "x86_64", target_pointer_width = "64"))
{
    Some(0xc000_003e)
} else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
    Some(0xc000_00b7)
} else if cfg!(target_arch = "riscv64") {
    Some(0xc000_00f3)
} else if cfg!(all(target_arch = "arm", target_endian = "little")) {
    Some(0x4000_0028)
} else if cfg!(all(target_arch = "mips", target_endian = "big")) {
    Some(0x0000_0008)
} else if cfg!(all(target_arch = "mips", target_endian = "little")) {
    Some(0x4000_0008)
} else {
    None
};

/// Numbers above 402 are the same everywhere, relative to this base.
#[cfg(target_arch = "mips")]
const BASE: c_long = 4000;
#[cfg(not(target_arch = "mips"))]
const BASE: c_long = 0;

/// The variants with 64-bit times on 32-bit machines (asm-generic/unistd.h). 64-bit machines have no calls
/// with these numbers.
const CLOCK_GETTIME64: c_long = BASE + 403;
const CLOCK_NANOSLEEP_TIME64: c_long = BASE + 407;
const PPOLL_TIME64: c_long = BASE + 414;
const RECVMMSG_TIME64: c_long = BASE + 417;
const FUTEX_TIME64: c_long = BASE + 422;

// The `libc` crate lacks these numbers on MIPS with musl (asm/unistd_o32.h).
#[cfg(target_arch = "mips")]
const PREAD64: c_long = BASE + 200;
#[cfg(target_arch = "mips")]
const PWRITE64: c_long = BASE + 201;
#[cfg(not(target_arch = "mips"))]
const PWRITE64: c_long = libc::SYS_pwrite64;
#[cfg(not(target_arch = "mips"))]
const PREAD64: c_long = libc::SYS_pread64;

/// Waiting for descriptors.
pub(super) const POLL: &[c_long] = &[
    #[cfg(not(any(target_arch = "aarch64", target_arch = "riscv64")))]
    libc::SYS_poll,
    libc::SYS_ppoll,
    PPOLL_TIME64,
];
/// Receiving.
pub(super) const RECEIVE: &[c_long] = &[
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    #[cfg(any(target_arch = "arm", target_arch = "mips"))]
    libc::SYS_recv,
];
/// Sending, with and without an address.
pub(super) const SEND: &[c_long] = &[
    libc::SYS_sendto,
    #[cfg(any(target_arch = "arm", target_arch = "mips"))]
    libc::SYS_send,
];
pub(super) const SENDMSG: &[c_long] = &[libc::SYS_sendmsg];
/// Reading the clocks, where the vDSO cannot.
pub(super) const CLOCK: &[c_long] = &[libc::SYS_clock_gettime, CLOCK_GETTIME64];
pub(super) const SLEEP: &[c_long] = &[
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    CLOCK_NANOSLEEP_TIME64,
    // Resumes a sleep after a signal.
    libc::SYS_restart_syscall,
];
pub(super) const SETSOCKOPT: &[c_long] = &[libc::SYS_setsockopt];
pub(super) const ABOUT_SOCKETS: &[c_long] = &[libc::SYS_getsockopt, libc::SYS_getsockname, libc::SYS_bind];
pub(super) const CLOSE: &[c_long] = &[libc::SYS_close];
pub(super) const FCNTL: &[c_long] = &[
    libc::SYS_fcntl,
    #[cfg(target_pointer_width = "32")]
    libc::SYS_fcntl64,
];
/// Reading an open file at an offset, and finding its size.
pub(super) const READ_AT: &[c_long] = &[
    PREAD64,
    libc::SYS_lseek,
    #[cfg(target_pointer_width = "32")]
    libc::SYS__llseek,
];
/// Reading from a descriptor, e.g. a signalfd.
pub(super) const READ: &[c_long] = &[libc::SYS_read];
/// Writing to a file at an offset, which fails on sockets.
pub(super) const WRITE_AT: &[c_long] = &[PWRITE64];
/// Mapping and protecting memory; the third argument of each is the protection.
pub(super) const MAP: &[c_long] = &[
    #[cfg(not(target_arch = "arm"))]
    libc::SYS_mmap,
    #[cfg(target_pointer_width = "32")]
    libc::SYS_mmap2,
    libc::SYS_mprotect,
];
pub(super) const MEMORY: &[c_long] = &[libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_brk];
/// Calls that the standard library and the C library make on their own.
pub(super) const RUNTIME: &[c_long] = &[
    libc::SYS_futex,
    FUTEX_TIME64,
    libc::SYS_getrandom,
    libc::SYS_sched_yield,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    #[cfg(any(target_arch = "arm", target_arch = "mips"))]
    libc::SYS_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Opening by path; the flags are the second argument of `open`, the third of `openat`.
#[cfg(not(any(target_arch = "aarch64", target_arch = "riscv64")))]
pub(super) const OPEN: &[c_long] = &[libc::SYS_open];
#[cfg(any(target_arch = "aarch64", target_arch = "riscv64"))]
pub(super) const OPEN: &[c_long] = &[];
pub(super) const OPENAT: &[c_long] = &[libc::SYS_openat];
/// Reading files and their metadata.
pub(super) const FILES: &[c_long] = &[
    libc::SYS_readv,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_flock,
    #[cfg(target_pointer_width = "64")]
    libc::SYS_newfstatat,
    #[cfg(target_pointer_width = "32")]
    libc::SYS_fstat64,
    #[cfg(target_pointer_width = "32")]
    libc::SYS_stat64,
    #[cfg(target_pointer_width = "32")]
    libc::SYS_lstat64,
    #[cfg(target_arch = "arm")]
    libc::SYS_fstatat64,
    #[cfg(target_arch = "mips")]
    4293, // fstatat64 (asm/unistd_o32.h), which the `libc` crate does not have with musl
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(not(any(target_arch = "aarch64", target_arch = "riscv64")))]
    libc::SYS_access,
    #[cfg(not(any(target_arch = "aarch64", target_arch = "riscv64")))]
    libc::SYS_readlink,
];
pub(super) const SOCKET: &[c_long] = &[libc::SYS_socket];
/// Calls of a client of name servers and local services.
pub(super) const CLIENT: &[c_long] = &[
    libc::SYS_connect,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    RECVMMSG_TIME64,
    libc::SYS_getpeername,
    libc::SYS_shutdown,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    #[cfg(not(any(target_arch = "aarch64", target_arch = "riscv64")))]
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_uname,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    #[cfg(target_arch = "arm")]
    libc::SYS_getuid32,
    #[cfg(target_arch = "arm")]
    libc::SYS_geteuid32,
    #[cfg(target_arch = "arm")]
    libc::SYS_getgid32,
    #[cfg(target_arch = "arm")]
    libc::SYS_getegid32,
    libc::SYS_sysinfo,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettimeofday,
];
/// For the number of readable bytes (`FIONREAD`) and non-blocking mode (`FIONBIO`).
pub(super) const IOCTL: &[c_long] = &[libc::SYS_ioctl];
