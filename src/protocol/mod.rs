//! What the watcher and the doorkeeper say to each other, which configuration both mean, and who waits for whom.
//!
//! ```text
//!            signals, knockd.conf, one-time files, state, logs, commands
//!                                    |
//!                          +---------+----------+
//!                          |     doorkeeper     |  main process: pid file, systemd, -d
//!                          |  Desk   Openings   |
//!                          +--+-------------^---+
//!        Adopt(g) [bundle]    |             |   Adopted(g)
//!        Taken(n)             |             |   Opened(n, g, door, knocker, turn)
//!        Lines(n, g, door)    |  one socket |   Single(n, g, door, sender, destination, packet)
//!                             |             |   Stepped(g, door, knocker, step)
//!        Socket [packet fd]   |   records   |   SocketWanted
//!        Finish               |             |   Interface, Trouble, LeftOut, TooMany, Explained, Refused
//!                          +--v-------------+---+
//!                          |  Outbox   Engine   |
//!                          |      watcher       |  child: may be lost, and is replaced
//!                          +---------+----------+
//!                                    |
//!                                 packets
//! ```
//!
//! **Processes.** The doorkeeper starts the watcher and outlives it. A watcher that ends is replaced at once (once a second
//! if it keeps ending); no door is touched, attempts under way are lost. When the doorkeeper ends, however it ends, the
//! watcher ends too: the kernel kills it (`PR_SET_PDEATHSIG`), and the socket is closed. So a watcher only ever speaks to
//! one doorkeeper, over one socket that keeps the order and loses nothing. What a watcher had sent when it died is still in
//! that socket, and is read before the next watcher is started.
//!
//! While some door is to be closed there is a third process, the heir (`daemon/doorkeeper/heir.rs`). It sleeps on a socket of
//! its own; when the doorkeeper ends before its time it claims the state file, as the next daemon would, and closes the doors
//! in their time. When a next daemon looks for the state file the heir writes down what it knows, and leaves.
//!
//! **Generations.** A configuration that is handed out gets a [`Generation`](messages::Generation). The doorkeeper reads
//! the files once and sends their bytes ([`Bundle`](bundle::Bundle)); nobody else reads them, so both processes parse the
//! same text and door 3 is the same door in both. SIGHUP is one transaction: read, `Adopt(g)`, and the doorkeeper keeps the
//! old configuration in force until `Adopted(g)` comes. The socket keeps the order, so all that stands before `Adopted(g)`
//! was said of the old one, and all behind it of the new one. Every opening and every step names its generation all the
//! same; one that is not in force is left alone. A new watcher is handed the text that is in force (or was handed out last),
//! with what is left of one-time files and what was spent by now, not what the file on disk says. One configuration is
//! handed out at a time; a SIGHUP in between is remembered.
//!
//! **Openings.** A watcher numbers its openings from 1. The doorkeeper takes number n + 1 after n, once, and only of the
//! generation in force ([`Desk`](desk::Desk)). To take one means, in this order: what the knock used up is used up (the line
//! is struck on the disk, the list is spent), OPEN SESAME is logged, the opening is in the state on disk, the command
//! starts. Only then `Taken(n)` is sent, for all that were read in one go. The watcher counts what is not acknowledged
//! ([`Outbox`](outbox::Outbox)) and makes no more than [`MOST_OPENINGS`](outbox::MOST_OPENINGS) beyond it, so that a
//! doorkeeper that is halted costs bounded memory; openings wait in order until there is room in the socket. Nothing is
//! ever sent twice: there is no second doorkeeper that could have missed it.
//!
//! **Single packets.** The watcher gets the configuration without the encryption keys of single packets. It passes on what
//! the HMAC key of a door takes, numbered like an opening; all else about a packet (what is in it, its age, whether it was
//! used, what it opens) is found out by the doorkeeper, which has the keys and the memory. A packet that is sent again and
//! again is passed on once, as long as the watcher remembers it. The packet is used up, in the state file, before the
//! command starts.
//!
//! **One-time files.** The watcher steps over a line by itself when it opened the door, and need not wait. After each
//! opening of such a door the doorkeeper sends what the file has left, `Lines(n, …)`; it counts if n is the watcher's last
//! opening of that door, for otherwise the file still had a line that is used.
//!
//! **Packet sockets.** Only the doorkeeper may open them. `SocketWanted` has nothing in it, so there is nothing to check:
//! the answer is a socket that is bound to no interface and hears nothing. The watcher keeps one in reserve, so that it does
//! not wait for one in the middle of a flood.
//!
//! **Who waits for whom.** The doorkeeper waits for nobody: it writes to the watcher what there is room for and keeps the
//! rest. At its start it waits for the first `Adopted` (30 seconds), at its end for the watcher's last words (a quarter of a
//! second), after which the watcher is killed. The watcher waits for a packet socket if it has none in reserve, at most a
//! quarter of a second, and for nothing else.
//!
//! **Where it crashes.**
//!
//! | what is killed, when | what follows |
//! |---|---|
//! | watcher, before `Opened` is sent | as if the knock had not come |
//! | watcher, after `Opened` is sent | the opening is taken from the socket |
//! | watcher, between `Adopt(g)` and `Adopted(g)` | the next one is handed the same text as g + 1 |
//! | doorkeeper, before the line is struck | as if the knock had not come: nothing opened, nothing is used up |
//! | doorkeeper, after the line is struck, before the state is written | the line is used up, nothing opened |
//! | doorkeeper, after the state is written | the heir closes the door or, if that is killed too, the next daemon |
//!
//! `tests/protocol` runs these two ends and a disk through every order of events, with a kill at every step.

pub mod bundle;
pub mod desk;
pub mod messages;
pub mod outbox;
