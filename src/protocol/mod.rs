//! The protocol between watcher and doorkeeper: messages, generations of the configuration, and who waits for whom.
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
//!                             |             |   OverRate(n, g, door, knocker, turn)
//!        Lines(n, g, door)    |  one socket |   Single(n, g, door, sender, destination, packet)
//!                             |             |   Stepped(g, door, knocker, step)
//!        Socket [packet fd]   |   records   |   SocketWanted
//!        Describe [file]      |             |   Described, Told(line)
//!        Used(g, opening)     |             |
//!        Tell, Finish         |             |   Interface, Trouble, LeftOut, Dropped, Explained,
//!                             |             |   Confined, Panicked, Refused
//!                          +--v-------------+---+
//!                          |  Outbox   Engine   |
//!                          |      watcher       |  child: may be lost, and is replaced
//!                          +---------+----------+
//!                                    |
//!                                 packets
//! ```
//!
//! **Processes.** The doorkeeper starts the watcher and outlives it. A watcher that ends is replaced at once (once a second
//! if it keeps ending); open doors are not affected, attempts in progress are lost. When the doorkeeper ends, however it ends, the
//! watcher ends too: the kernel kills it (`PR_SET_PDEATHSIG`), and the socket is closed. So a watcher only ever speaks to
//! one doorkeeper, over one socket that keeps the order and loses nothing. What a watcher had sent when it died is still in
//! that socket, and is read before the next watcher is started.
//!
//! While a door waits to be closed there is a third process, the heir (`daemon/doorkeeper/heir.rs`). It sleeps on a socket of
//! its own. If the doorkeeper is killed, the heir claims the state file, as the next daemon would, and closes the doors when
//! they are due. A daemon that starts calls it; then the heir writes the state and exits.
//!
//! **Generations.** Each configuration sent to a watcher gets a [`Generation`](messages::Generation). The doorkeeper reads
//! the files once and sends their bytes ([`Bundle`](bundle::Bundle)); no other process reads them, so both parse the
//! same text and door 3 is the same door in both. SIGHUP is one transaction: read, `Adopt(g)`, and the doorkeeper keeps the
//! old configuration in force until `Adopted(g)` comes. The socket is ordered: messages before `Adopted(g)` mean
//! the old configuration, messages after it the new one. Every opening and every step still names its generation, and is
//! ignored if that is not in force. A new watcher gets the text that is in force (or was sent last), with the lines left in
//! one-time files and the lists used by now, and not the current content of the file on disk. One configuration is sent at a
//! time; a SIGHUP in between is carried out afterwards.
//!
//! **Openings.** A watcher numbers its openings from 1. The doorkeeper takes number n + 1 after n, once, and only of the
//! generation in force ([`Desk`](desk::Desk)). To take one means, in this order: mark the list as used (strike the line on
//! disk), log OPEN SESAME, write the opening to the state file, start the command (or keep
//! it in memory until fewer are running). Only then `Taken(n)` is sent, once for all openings that were read together. The watcher counts what is not acknowledged
//! ([`Outbox`](outbox::Outbox)) and makes no more than [`MOST_OPENINGS`](outbox::MOST_OPENINGS) beyond it, so that a
//! doorkeeper that is halted costs bounded memory, and no more than [`MOST_OF_DOOR`](outbox::MOST_OF_DOOR) of one door, so
//! that no door starves another; openings wait in order until there is room in the socket. Nothing is
//! sent twice: there is no second doorkeeper that could have missed it. An opening that the watcher refuses because of
//! `Open_Rate` is numbered like the others, as `OverRate`: the doorkeeper marks its list as used and opens nothing.
//!
//! **Single packets.** The watcher gets the configuration without the encryption keys of single packets. It passes on packets
//! that the HMAC key of a door verifies, numbered like openings. The doorkeeper, which has the encryption keys and the list
//! of used packets, decides everything else: content, age, replay, what to open. The watcher passes a repeated packet on
//! once, as long as it remembers it. The packet is marked as used, in the state file, before the command starts.
//!
//! **One-time files.** When a line opens its door the watcher goes on to the next line without waiting. After each opening
//! of such a door the doorkeeper sends the remaining lines, `Lines(n, …)`. The watcher ignores them unless n is its last
//! opening of that door, since the file then still contained a used line.
//!
//! **Packet sockets.** Only the doorkeeper can open them. `SocketWanted` has no arguments, so there is nothing to validate:
//! the answer is a socket that is not bound to an interface and receives nothing. The watcher keeps one in reserve, so that
//! it need not wait for one during a flood.
//!
//! **Confinement.** Before it reads anything the watcher gives up its user, its capabilities, files and most system calls
//! ([`confinement`]), and says in its first message what it could not. If it ends by a fault it says so (`Panicked`).
//! The doorkeeper takes no word of it for granted: [`credible`] has what can be known of an opening.
//!
//! **Status.** The doorkeeper serves both status sockets, since the watcher may send nothing but messages. When somebody asks
//! for what the watcher knows, it is sent a file in memory to write it into (`Describe`), and says when it did
//! (`Described`); a request while there is no watcher is answered by the next. On SIGUSR1 the doorkeeper sends `Tell`, and the lines that come back go to
//! the log.
//!
//! **Who waits for whom.** The doorkeeper blocks neither on the watcher nor on the disk: it writes what the socket has room for
//! and keeps the rest. At its start it waits for the first `Adopted` (30 seconds), at its end for the watcher's last words (a quarter of a
//! second), after which the watcher is killed. The watcher waits for a packet socket if it has none in reserve, at most a
//! quarter of a second, and for nothing else.
//!
//! **Crashes.**
//!
//! | killed process, and when | result |
//! |---|---|
//! | watcher, before `Opened` is sent | the knock is lost |
//! | watcher, after `Opened` is sent | the doorkeeper reads the opening from the socket |
//! | watcher, between `Adopt(g)` and `Adopted(g)` | the next watcher gets the same text as g + 1 |
//! | doorkeeper, before the line is struck | the knock is lost: no door opens, no list is used |
//! | doorkeeper, after the line is struck, before the state is written | the line is used, no door opens |
//! | doorkeeper, while an opening waits for another command | the line is used, no door opens |
//! | doorkeeper, after the state is written | the heir closes the door or, if that is killed too, the next daemon |
//!
//! `tests/protocol` runs these two ends and a disk through every order of events, with a kill at every step.

pub mod bundle;
pub(crate) mod bytes;
pub mod confinement;
pub mod credible;
pub mod desk;
pub mod messages;
pub mod outbox;
pub(crate) mod shared_knock;
pub mod values;
