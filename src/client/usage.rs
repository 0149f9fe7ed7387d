//! The texts of `-h` and `-V`.

/// The usage. Its first part is knock 0.8's, word for word.
pub const USAGE: &str = "\
usage: knock [options] <host> <port[:proto]> [port[:proto]] ...
options:
  -u, --udp            make all ports hits use UDP (default is TCP)
  -d, --delay <t>      wait <t> milliseconds between port hits
  -4, --ipv4           Force usage of IPv4
  -6, --ipv6           Force usage of IPv6
  -v, --verbose        be verbose
  -V, --version        display version
  -h, --help           this help

example:  knock myserver.example.com 123:tcp 456:udp 789:tcp

profiles:
       knock [options] <profile> [-- <command> ...]
      --list           show the profiles: those of ~/.config/knock.conf and of
                       /etc/knock.conf
      --insecure       use a file that others can read or write

around the knock (<length>:icmp is a ping with so many bytes):
      --both           knock over IPv4 and IPv6
  -i, --interface <if> send through this interface (Linux)
      --jitter <t>     wait up to <t> milliseconds longer, by chance
      --count <n>      knock the whole sequence <n> times
      --print          print the sequence and do nothing else
      --dry-run        show what would be sent

after the knock:
      --wait <port[/udp]>
                       wait until the host answers on <port>
      --timeout <s>    wait <s> seconds for that (default 5)
      --retries <n>    if it does not answer, knock again, <n> times
      --proxy <port>   join stdin and stdout to <port> of the host
      -- <command> ... become this command

sequences that are used once:
      --one-time-sequences <file>
                       knock the first unused line of <file>, and strike it
      --otp <seed,change_time,base,on|off,proto[,proto...]>
                       knock the one-time password of now (others can see a
                       seed on a command line; the next two hide it)
      --otp-file <file>
                       the same, from the only line of <file>
      --config <file> --door <name>
                       the same, of a door of a knockd.conf
      --otp-digest <sha1|sha256|sha512>
                       its digest (default sha1, or that of the door)
      --source-ip <auto|address|stun:server[:port] ...|command:cmd>
                       which address of ours the server sees (default auto)
      --clock-offset <s>
                       add <s> seconds to the clock of this machine
      --new-seed       print a new seed, and do nothing else

single packets, for fwknop and SPA doors:
      -n, --stanza <name>
                       send the single packet of a stanza of ~/.fwknoprc
      --fwknoprc <file>
                       the stanza is in <file>
      --spa <ports>    ask for these ports, such as tcp/22,udp/51820
      --allow-ip <source|auto|address|stun:server[:port] ...|command:cmd>
                       whom to let in (default source: the sender)

raw packets (port[:proto[:flags]] then names the TCP flags of a single port):
      --raw            craft the packets; needs CAP_NET_RAW
      --flags <f+f>    fin syn rst psh ack urg ece cwr, or none (default syn)
      --source <addr>  send from this address
      --source-port <n|random>
      --ttl <n>        time to live, hop limit (default 64)
      --tos <n>        type of service, traffic class
      --dscp <n>       the same by its upper six bits
      --id <n>         identification (IPv4)
      --df[=no]        don't fragment (IPv4, default yes)
      --seq <n>        TCP sequence number
      --ack-seq <n>    TCP acknowledgment number
      --window <n>     TCP window
      --urgent <n>     TCP urgent pointer
      --mss <n>        TCP maximum segment size
      --data <text|hex:digits|file:path|size:n>
                       what the packets carry
      --bad-checksum   make the TCP and UDP checksums wrong
      --pcap <file>    write the packets to <file>

";

/// Version and copyright.
pub(super) const VERSION: &str = concat!(
    "knock ",
    env!("CARGO_PKG_VERSION"),
    "\nCopyright (C) 2026 The knockd maintainers (MIT OR Apache-2.0)\n"
);
