//! Several gateways that open together: what the doorkeeper and a fleet's program say to each other, and which
//! openings wait for an answer.
//!
//! ```text
//!  knocks --> watcher --> doorkeeper <== messages, one socket ==> knockd-fleet <--TCP--> engine
//! ```
//!
//! With `Fleet_Socket` the doorkeeper listens at a socket in the file system (`SOCK_SEQPACKET`, mode 0600). One peer at a
//! time is served, whose user must be root or the daemon's own (`SO_PEERCRED`). knockd itself opens no connection and knows
//! nothing of the engine; `contrib/fleet` has the program that does. Without `Fleet_Socket` none of this exists: no
//! descriptor, no message, no wait.
//!
//! **Messages** ([`message`]). An opening is told in lines of the state file. What is no message ends the connection.
//! Doors go by name, so that the files of the members may differ in other doors, and that
//! a reload changes nothing here.
//!
//! | from | message | meaning |
//! |---|---|---|
//! | doorkeeper | `Hello` | the first one: the version, a fingerprint of all doors, and a number of this daemon; again after each reload |
//! | doorkeeper | `Ask` | is what this knock used up (the mark) used up anywhere? It counts as used from now on |
//! | doorkeeper | `Opened` | a door was opened here, for that time |
//! | doorkeeper | `Knock` | a knock arrived here that another member may need (`Fleet_Share = knocks`) |
//! | peer | `Knock` | a knock that arrived at another member |
//! | peer | `Answer` | it was not used anywhere else, or it was, or the engine is out of reach |
//! | peer | `Open` | a door was opened at another member; that much of its time is left |
//!
//! **Numbers.** Each opening has a number, counted from a random one on, which it keeps on its way through the fleet, and
//! each daemon a random number, its session. By both the peer knows what it has told this daemon already, and tells it
//! each opening once. After a restart of knockd it tells the new daemon everything that was knocked elsewhere and is
//! still open.
//! The daemon remembers no numbers: a door that is open for this knocker gets a later end, if the fleet has one, and its
//! start command is not run again.
//!
//! **Shapes.** Each message about a door carries its name and what it is ([`marks::shape`]): its kind of lock, its periods.
//! An `Open` for a door that is something else here is refused, with a line in the log. So is one for a port that no key for
//! single packets grants here; and no door opens for longer than for a knock here.
//!
//! **Spending.** What can be used once (a line of a one-time file, a list of one-time ports, a single packet) is used up here
//! first, on disk, as without a fleet; then the fleet is asked. The opening waits for the answer, and nothing else does.
//! After 300 ms, or at once if there is no peer, the engine is out of reach, or another configuration comes into force, `Fleet_Spent`
//! decides. The question stays queued for the engine either way. A member that receives an `Open` uses up its turn too:
//! strikes the line, remembers the list or the packet, and begins the cooldown. The watcher is not told of a list or a
//! cooldown: what it reports is checked, and refused.
//!
//! **Knocks** ([`sharing`](crate::engine::sharing)). The watcher decides which are shared, and what becomes of those that
//! arrived elsewhere; the doorkeeper passes them on, now or never: one that comes late is of no use. They are not in the
//! queue, and need no answer. Nor need the watcher know whether there is a peer: it processes each packet as it would alone.
//!
//! **Time.** Messages carry the uptime at which an opening's time is over, never a time of day. The peer turns that into
//! what is left, so that no clock of a member matters to another one.
//!
//! **Who waits for whom.** Nobody. What the socket has no room for waits in a queue of [`waiting::MOST_QUEUED`] messages;
//! the oldest is dropped when it is full, and those whose time is over. It also keeps what happened while there was no peer.

pub mod marks;
pub mod message;
pub mod waiting;
