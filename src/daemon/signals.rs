//! Signals as a readable descriptor: no code of ours runs inside a signal handler.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::low_level::pipe;

/// Which signals came since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a signal of its own")]
pub struct Came {
    /// SIGTERM or SIGINT: end.
    pub end: bool,
    /// SIGHUP: read the configuration again.
    pub reload: bool,
    /// SIGCHLD: a child ended.
    pub child: bool,
    /// SIGUSR1: write what is known to the log.
    pub tell: bool,
}

/// Never hears of a signal that is meant for the daemon as a whole, and that somebody may send to all processes of
/// this name (`killall -HUP`): for those that end when the daemon's main process does.
pub fn ignore_all() {
    let all =
        [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];
    let mut set = SigSet::empty();
    for signal in all {
        set.add(signal);
    }
    let _ = set.thread_block();
}

/// Readable when SIGUSR1 came to this process, which [ignores](ignore_all) it otherwise; none where the kernel has no
/// such thing.
#[must_use]
pub fn usr1() -> Option<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGUSR1);
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).ok()
}

/// Hears of them again, those included that came meanwhile.
pub fn ignore_none() {
    let _ = SigSet::all().thread_unblock();
}

/// SIGTERM, SIGINT, SIGHUP, SIGCHLD and SIGUSR1, from now on.
#[derive(Debug)]
pub struct Signals {
    doorbell: UnixStream,
    ringer: UnixStream,
    end: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    child: Arc<AtomicBool>,
    tell: Arc<AtomicBool>,
}

impl Signals {
    /// Begins to listen for signals.
    ///
    /// # Errors
    /// What the operating system says, say that there are too many open files.
    pub fn new() -> io::Result<Signals> {
        let (doorbell, ringer) = UnixStream::pair()?;
        doorbell.set_nonblocking(true)?;
        ringer.set_nonblocking(true)?;
        let signals = Signals {
            doorbell,
            ringer,
            end: Arc::default(),
            reload: Arc::default(),
            child: Arc::default(),
            tell: Arc::default(),
        };
        for (signal, flag) in [
            (SIGTERM, &signals.end),
            (SIGINT, &signals.end),
            (SIGHUP, &signals.reload),
            (SIGCHLD, &signals.child),
            (SIGUSR1, &signals.tell),
        ] {
            // In this order: when the bell rings, the flag is up.
            signal_hook::flag::register(signal, Arc::clone(flag))?;
            pipe::register(signal, signals.ringer.try_clone()?)?;
        }
        // A file that reached RLIMIT_FSIZE: writing fails, and that is told. SIGUSR2 means nothing, and its default is
        // to end the process. What we run gets the defaults again.
        for signal in [SIGXFSZ, SIGUSR2] {
            signal_hook::flag::register(signal, Arc::default())?;
        }
        Ok(signals)
    }

    /// Readable when a signal came.
    #[must_use]
    pub fn doorbell(&self) -> BorrowedFd<'_> {
        self.doorbell.as_fd()
    }

    /// Whether SIGTERM or SIGINT came. Takes no signal, but quiets the doorbell until the next one;
    /// [`Signals::ring`] makes up for that.
    pub fn is_end_wanted(&mut self) -> bool {
        self.quiet();
        self.end.load(Ordering::SeqCst)
    }

    /// Makes the doorbell readable, as if a signal had come.
    pub fn ring(&mut self) {
        // It is full: then it rings already.
        let _ = self.ringer.write(&[0]);
    }

    fn quiet(&mut self) {
        let mut rings = [0; 64];
        while matches!(self.doorbell.read(&mut rings), Ok(count) if count > 0) {}
    }

    /// What came since the last call.
    pub fn take(&mut self) -> Came {
        self.quiet();
        let lower = |flag: &AtomicBool| flag.swap(false, Ordering::SeqCst);
        Came {
            end: lower(&self.end),
            reload: lower(&self.reload),
            child: lower(&self.child),
            tell: lower(&self.tell),
        }
    }
}
