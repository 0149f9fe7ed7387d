//! The BPF interpreter of the tests, compared with the kernel.

use std::os::unix::net::UnixDatagram;

use knocking::filter::bpf::Instruction;
use nix::errno::Errno;
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use crate::support::interpreter::{Around, check, passes, run};

trials![the_interpreter_is_right, the_kernel_agrees_with_the_interpreter];

/// Attaches a program to a socket like the daemon's; returns whether the kernel has memory for it.
pub fn load(program: &[Instruction]) -> bool {
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0))).unwrap();
    match socket.attach_filter(&for_the_kernel(program)) {
        Err(error) if error.raw_os_error() == Some(Errno::ENOMEM as i32) => false,
        result => {
            result
                .unwrap_or_else(|error| panic!("the kernel refuses {} instructions: {error}", program.len()));
            true
        }
    }
}

fn for_the_kernel(program: &[Instruction]) -> Vec<SockFilter> {
    program.iter().map(|it| SockFilter::new(it.code, it.jt, it.jf, it.k)).collect()
}

/// The kernel as an interpreter: a pair of local sockets with a program attached.
pub struct Kernel {
    sender: UnixDatagram,
    receiver: UnixDatagram,
}

impl Kernel {
    /// Such a socket has no link-layer protocol and no interface: loads of these become loads of the
    /// constants `ether_type` and that of [`Around::of`].
    pub fn with(program: &[Instruction], ether_type: u32) -> Kernel {
        let adapted: Vec<Instruction> = program
            .iter()
            .map(|&it| match it {
                Instruction { code: 0x28, k: 0xffff_f000, .. } => {
                    Instruction { code: 0, jt: 0, jf: 0, k: ether_type }
                }
                Instruction { code: 0x20, k: 0xffff_f008, .. } => {
                    Instruction { code: 0, jt: 0, jf: 0, k: Around::of(&[]).interface }
                }
                other => other,
            })
            .collect();
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        receiver.set_nonblocking(true).unwrap();
        SockRef::from(&receiver).attach_filter(&for_the_kernel(&adapted)).unwrap();
        Kernel { sender, receiver }
    }

    pub fn passes(&self, bytes: &[u8]) -> bool {
        assert!(!bytes.is_empty(), "a rejected datagram and an empty one look alike");
        self.sender.send(bytes).unwrap();
        self.receiver.recv(&mut [0; 2048]).is_ok()
    }
}

fn the_interpreter_is_right() {
    let op = |code, jt, jf, k| Instruction { code, jt, jf, k };
    let around = Around { ether_type: 0x0800, packet_type: 4, interface: 9, is_tagged: true };
    let bytes = [0x46, 0x11, 0x22, 0x33, 0x44];
    let value_of = |loads: &[Instruction], k| {
        let program = [loads, &[op(0x15, 0, 1, k), op(0x06, 0, 0, 1), op(0x06, 0, 0, 0)]].concat();
        run(&program, &bytes, around) == 1
    };
    assert!(value_of(&[op(0x20, 0, 0, 1)], 0x1122_3344));
    assert!(value_of(&[op(0x28, 0, 0, 1)], 0x1122) && value_of(&[op(0x30, 0, 0, 4)], 0x44));
    assert!(value_of(&[op(0x01, 0, 0, 2), op(0x48, 0, 0, 1)], 0x3344));
    assert!(value_of(&[op(0xb1, 0, 0, 0), op(0x50, 0, 0, 0xffff_ffea)], 0x22));
    assert!(!value_of(&[op(0x20, 0, 0, 2)], 0), "beyond the end");
    for (offset, value) in [(0, 0x0800), (4, 4), (8, 9), (48, 1)] {
        assert!(value_of(&[op(0x20, 0, 0, 0xffff_f000 + offset)], value));
    }
}

/// Compares conditional jumps.
fn the_kernel_agrees_with_the_interpreter() {
    let op = |code, jt, jf, k| Instruction { code, jt, jf, k };
    for code in [0x15, 0x25, 0x35, 0x45] {
        for k in [0, 1, 6, 7, 8, 255] {
            let program = [op(0x30, 0, 0, 1), op(code, 1, 0, k), op(0x06, 0, 0, 0), op(0x06, 0, 0, 9)];
            check(&program);
            let kernel = Kernel::with(&program, 0);
            for bytes in [vec![1], vec![1, 7], vec![1, 0], vec![1, 8, 9]] {
                assert_eq!(
                    kernel.passes(&bytes),
                    passes(&program, &bytes, Around::of(&bytes)),
                    "{code:#x} {k}"
                );
            }
        }
    }
}
