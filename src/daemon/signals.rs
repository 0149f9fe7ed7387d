//! Signals as a readable descriptor: signal handlers run no code of ours.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::low_level::pipe;

/// The signals that arrived since the last call of [`Signals::take`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a signal of its own")]
pub struct ReceivedSignals {
    /// SIGTERM or SIGINT: end.
    pub end: bool,
    /// SIGHUP: read the configuration again.
    pub reload: bool,
    /// SIGCHLD: a child ended.
    pub child: bool,
    /// SIGUSR1: write the status to the log.
    pub tell: bool,
}

/// Blocks the signals meant for the daemon as a whole, which somebody may send to all processes of this name
/// (`killall -HUP`): for processes that end together with the main process.
pub fn ignore_all() {
    let all =
        [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];
    let mut set = SigSet::empty();
    for signal in all {
        set.add(signal);
    }
    let _ = set.thread_block();
}

/// A signalfd for SIGUSR1, which this process [blocks](ignore_all); `None` where the kernel has no signalfd.
#[must_use]
pub fn usr1() -> Option<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGUSR1);
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).ok()
}

/// Unblocks all signals; pending ones are delivered.
pub fn ignore_none() {
    let _ = SigSet::all().thread_unblock();
}

/// Listens for SIGTERM, SIGINT, SIGHUP, SIGCHLD and SIGUSR1.
#[derive(Debug)]
pub struct Signals {
    wakeup_reader: UnixStream,
    wakeup_writer: UnixStream,
    end: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    child: Arc<AtomicBool>,
    tell: Arc<AtomicBool>,
}

impl Signals {
    /// Begins to listen for signals.
    ///
    /// # Errors
    /// Any error of the system calls, e.g. too many open files.
    pub fn new() -> io::Result<Signals> {
        let (wakeup_reader, wakeup_writer) = UnixStream::pair()?;
        wakeup_reader.set_nonblocking(true)?;
        wakeup_writer.set_nonblocking(true)?;
        let signals = Signals {
            wakeup_reader,
            wakeup_writer,
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
            // In this order: the flag is set before the descriptor becomes readable.
            signal_hook::flag::register(signal, Arc::clone(flag))?;
            pipe::register(signal, signals.wakeup_writer.try_clone()?)?;
        }
        // SIGXFSZ (RLIMIT_FSIZE): the write then fails with an error that is reported. SIGUSR2 means nothing
        // to us, but would end the process by default. Commands get the default actions again.
        for signal in [SIGXFSZ, SIGUSR2] {
            signal_hook::flag::register(signal, Arc::default())?;
        }
        Ok(signals)
    }

    /// Readable when a signal arrived.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.wakeup_reader.as_fd()
    }

    /// Whether SIGTERM or SIGINT arrived. Consumes no signal, but drains the descriptor until the next one;
    /// [`Signals::wake`] makes up for that.
    pub fn is_end_wanted(&mut self) -> bool {
        self.drain_wakeups();
        self.end.load(Ordering::SeqCst)
    }

    /// Makes the descriptor readable, as a signal does.
    pub fn wake(&mut self) {
        // A full pipe is readable already.
        let _ = self.wakeup_writer.write(&[0]);
    }

    fn drain_wakeups(&mut self) {
        let mut bytes = [0; 64];
        while matches!(self.wakeup_reader.read(&mut bytes), Ok(count) if count > 0) {}
    }

    /// The signals that arrived since the last call.
    pub fn take(&mut self) -> ReceivedSignals {
        self.drain_wakeups();
        let take_flag = |flag: &AtomicBool| flag.swap(false, Ordering::SeqCst);
        ReceivedSignals {
            end: take_flag(&self.end),
            reload: take_flag(&self.reload),
            child: take_flag(&self.child),
            tell: take_flag(&self.tell),
        }
    }
}
