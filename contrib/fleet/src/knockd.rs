//! The thread that speaks with knockd.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use knocking::fleet::message::{LENGTH, Message, VERSION};
use knocking::protocol::messages::Crossing;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::log::say;
use crate::shared::Shared;

/// How long to wait before knockd is looked for again.
const PAUSE: Duration = Duration::from_millis(200);
/// How long knockd may take no message, in seconds.
const PATIENCE: i64 = 2;

/// A connection to knockd, which several threads may write to.
#[derive(Clone, Debug)]
pub struct Socket(Arc<OwnedFd>);

impl Socket {
    fn open(path: &Path) -> io::Result<Socket> {
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(PATIENCE))?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Socket(Arc::new(socket)))
    }

    /// Says something. What knockd does not take within some seconds it is told again when it comes back.
    pub fn say(&self, message: &Message) {
        let _ = send(self.0.as_raw_fd(), &message.encode(), MsgFlags::MSG_NOSIGNAL);
    }

    /// Waits for what knockd says; nothing if it is gone, or says what is no message.
    fn hear(&self) -> Option<Message> {
        let mut bytes = [0; LENGTH + 1];
        loop {
            match recv(self.0.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                Ok(length) => return bytes.get(..length).and_then(Message::decode),
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    }
}

/// Connects to knockd again and again, and passes on what it says.
pub fn run(shared: &Shared, sender: &Sender<Message>) {
    let path = &shared.config.socket;
    let mut is_missed = false;
    loop {
        match Socket::open(path) {
            Ok(socket) => {
                is_missed = false;
                serve(shared, sender, &socket);
                let mut state = shared.state();
                (state.knockd, state.shape) = (None, 0);
            }
            Err(error) if !is_missed => {
                is_missed = true;
                say(&format!("knockd is not at {}: {error}; trying again", path.display()));
            }
            Err(_) => {}
        }
        std::thread::sleep(PAUSE);
    }
}

fn serve(shared: &Shared, sender: &Sender<Message>, socket: &Socket) {
    let mut is_greeted = false;
    while let Some(message) = socket.hear() {
        match message {
            Message::Hello(VERSION, shape) => {
                let mut state = shared.state();
                state.shape = shape;
                if !is_greeted {
                    state.knockd = Some(socket.clone());
                    state.is_to_tell_all = true;
                    say("knockd is connected");
                }
                is_greeted = true;
            }
            Message::Hello(version, _) => {
                return say(&format!("knockd speaks version {version}, this program {VERSION}"));
            }
            Message::Ask(question) if !shared.config.shares(&question.door) => {
                socket.say(&Message::Yes(question.number));
            }
            Message::Opened(opening) if !shared.config.shares(&opening.door) => {}
            Message::Ask(question) => {
                let is_in_reach = shared.state().is_in_reach;
                if is_in_reach {
                    let _ = sender.send(Message::Ask(question));
                } else {
                    socket.say(&Message::Unknown(question.number));
                    shared.wait(Message::Ask(question));
                }
            }
            Message::Opened(_) => {
                let _ = sender.send(message);
            }
            Message::Open(_) | Message::Yes(_) | Message::No(_) | Message::Unknown(_) => {}
        }
    }
    say("knockd is gone");
}
