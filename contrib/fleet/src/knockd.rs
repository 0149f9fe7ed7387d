//! The thread that communicates with knockd.

use std::sync::mpsc::Sender;
use std::time::Duration;

use knocking::fleet::message::{FromKnockd, ToKnockd, VERSION};

use crate::log::say;
use crate::shared::Shared;
use crate::socket::Socket;

/// The pause before reconnecting to knockd.
const PAUSE: Duration = Duration::from_millis(200);
/// The same if it is of another version.
const LONG_PAUSE: Duration = Duration::from_secs(10);
/// Connects to knockd, again and again, and forwards its messages.
pub fn run(shared: &Shared, sender: &Sender<FromKnockd>) {
    let path = &shared.config.socket;
    let mut is_missed = false;
    loop {
        let mut pause = PAUSE;
        match Socket::open(path) {
            Ok(socket) => {
                is_missed = false;
                if let Err(version) = serve(shared, sender, &socket) {
                    say(&format!("knockd speaks version {version}, this program {VERSION}"));
                    pause = LONG_PAUSE;
                }
                let uptime = shared.uptime();
                let mut state = shared.state();
                (state.knockd, state.shape, state.knockd_lost) = (None, 0, uptime);
            }
            Err(error) if !is_missed => {
                is_missed = true;
                say(&format!("knockd is not at {}: {error}; trying again", path.display()));
            }
            Err(_) => {}
        }
        std::thread::sleep(pause);
    }
}

/// Serves a connection until it ends.
///
/// # Errors
/// The version of a knockd that is not of ours.
fn serve(shared: &Shared, sender: &Sender<FromKnockd>, socket: &Socket) -> Result<(), u64> {
    let mut is_greeted = false;
    while let Some(message) = socket.hear() {
        match message {
            FromKnockd::Hello(VERSION, shape, session) => {
                let mut state = shared.state();
                (state.shape, state.knockd_session) = (shape, session);
                if !is_greeted {
                    state.knockd = Some(socket.clone());
                    state.is_to_tell_all = true;
                    say("knockd is connected");
                }
                is_greeted = true;
            }
            FromKnockd::Hello(version, ..) => {
                return Err(version);
            }
            FromKnockd::Ask(question) if !shared.config.shares(&question.stop.door) => {
                socket.say(ToKnockd::Answer(question.stop.key.number, Some(true)));
            }
            FromKnockd::Opened(opening) if !shared.config.shares(&opening.stop.door) => {}
            FromKnockd::Ask(question) => {
                let is_in_reach = shared.state().is_in_reach;
                if is_in_reach {
                    let _ = sender.send(FromKnockd::Ask(question));
                } else {
                    socket.say(ToKnockd::Answer(question.stop.key.number, None));
                    shared.wait(FromKnockd::Ask(question));
                }
            }
            FromKnockd::Opened(_) | FromKnockd::Knock(_) => {
                let _ = sender.send(message);
            }
        }
    }
    say("knockd is gone");
    Ok(())
}
