//! The protocol between watcher and doorkeeper: messages, generations of the configuration, and which side
//! waits for which.
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
//! **Processes.** The doorkeeper starts the watcher and outlives it. A watcher that exits is replaced at once
//! (once a second if it keeps exiting); open doors are not affected, attempts in progress are lost. However
//! the doorkeeper ends, the watcher ends too: the kernel kills it (`PR_SET_PDEATHSIG`), and the socket is
//! closed. So a watcher only ever talks to one doorkeeper, over one ordered, reliable socket. Messages that a
//! watcher had sent when it died are still in that socket, and are read before the next watcher is started.
//!
//! While a door waits to be closed there is a third process, the heir (`daemon/doorkeeper/heir.rs`), which
//! sleeps on a socket of its own. If the doorkeeper is killed, the heir claims the state file, as the next
//! daemon would, and closes the doors when they are due. A daemon that starts wakes it; then the heir
//! writes the state and exits.
//!
//! **Generations.** Each configuration sent to a watcher gets a [`Generation`](messages::Generation). The
//! doorkeeper reads the files once and sends their bytes ([`Bundle`](bundle::Bundle)); no other process reads
//! them, so both parse the same text and door 3 is the same door in both. SIGHUP is one transaction: read,
//! `Adopt(g)`, and the doorkeeper keeps the old configuration in force until `Adopted(g)` arrives. The socket
//! is ordered: messages before `Adopted(g)` refer to the old configuration, messages after it to the new one.
//! Every opening and every step nevertheless names its generation, and is ignored if that is not in force. A
//! new watcher gets the text in force (or sent last), with the lines left in one-time files and the lists
//! used by now, rather than the current content of the files on disk. One configuration is sent at a time; a
//! SIGHUP in between is carried out afterwards.
//!
//! **Openings.** A watcher numbers its openings from 1. The doorkeeper accepts number n + 1 after n, once,
//! and only if its generation is in force ([`Desk`](desk::Desk)). To accept one means, in this order: mark
//! the list as used (strike the line on disk), log OPEN SESAME, write the opening to the state file, start
//! the command (or keep it in memory until fewer are running). Only then it sends `Taken(n)`, once for all
//! openings read together. The watcher counts the openings that are not acknowledged
//! ([`Outbox`](outbox::Outbox)) and makes at most [`MOST_OPENINGS`](outbox::MOST_OPENINGS) of them, so that a
//! stopped doorkeeper costs bounded memory, and at most [`MOST_OF_DOOR`](outbox::MOST_OF_DOOR) of one door,
//! so that no door starves another; openings wait in order until there is room in the socket. Nothing is sent
//! twice: there is no second doorkeeper that could have missed it. An opening that the watcher rejects
//! because of `Open_Rate` is numbered like the others, as `OverRate`: the doorkeeper marks its list as used
//! and opens nothing.
//!
//! **Single packets.** The watcher gets the configuration without the encryption keys of single packets. It
//! forwards packets that the HMAC key of a door verifies, numbered like openings. The doorkeeper, which has
//! the encryption keys and the list of used packets, decides everything else: content, age, replay, what to
//! open. The watcher forwards a repeated packet once, as long as it remembers it. The packet is marked as
//! used, in the state file, before the command starts.
//!
//! **One-time files.** When a line opens its door the watcher goes on to the next line without waiting. After
//! each opening of such a door the doorkeeper sends the remaining lines, `Lines(n, …)`. The watcher ignores
//! them if it has made a later opening of that door: then they still contain a line that is used by now.
//!
//! **Packet sockets.** Only the doorkeeper can open them. `SocketWanted` has no arguments, so there is
//! nothing to validate: the answer is a socket that is not bound to an interface and receives nothing. The
//! watcher keeps one in reserve, so that it need not wait for one during a flood.
//!
//! **Confinement.** Before it reads anything, the watcher gives up its user, its capabilities, files and most
//! system calls ([`confinement`]), and its first message reports the steps that failed. If it panics it
//! reports that (`Panicked`). The doorkeeper verifies whatever it can of an opening ([`credible`]).
//!
//! **Status.** The doorkeeper serves both status sockets, since the watcher may send nothing but messages. On
//! a request for the watcher's status, the doorkeeper sends it a memfd to write into (`Describe`), and the
//! watcher reports when it is done (`Described`); a request while there is no watcher is answered by the next
//! one. On SIGUSR1 the doorkeeper sends `Tell`, and the lines of the answer go to the log.
//!
//! **Blocking.** The doorkeeper blocks neither on the watcher nor on the disk: it writes what the socket has
//! room for and keeps the rest. At its start it waits for the first `Adopted` (30 seconds), at its end for
//! the watcher's last messages (a quarter of a second), after which it kills the watcher. The watcher waits
//! for a packet socket if it has none in reserve, at most a quarter of a second, and for nothing else.
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
pub mod knock;
pub mod messages;
pub mod outbox;
pub mod values;
