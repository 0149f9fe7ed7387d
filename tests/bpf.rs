//! Classic BPF, as the kernel runs it on a cooked packet socket: an interpreter, and the kernel itself to hold it
//! against. Written from the kernel's `Documentation/networking/filter.rst`, apart from the assembler under test.

use std::os::unix::net::UnixDatagram;

use knocking::bpf::Instruction;
use nix::errno::Errno;
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

trials![the_interpreter_is_right, the_kernel_runs_programs_alike];

/// What the kernel knows of a packet beside its bytes, which begin with the IP header.
#[derive(Clone, Copy, Debug)]
pub struct Around {
    pub ether_type: u32,
    /// 0 for us, 4 on its way out.
    pub packet_type: u32,
    pub interface: u32,
    pub is_tagged: bool,
}

impl Around {
    /// A packet that arrives on an ordinary interface.
    pub fn of(ip: &[u8]) -> Around {
        let ether_type = if ip.first().is_some_and(|first| first >> 4 == 6) { 0x86dd } else { 0x0800 };
        Around { ether_type, packet_type: 0, interface: 7, is_tagged: false }
    }
}

/// Whether the program passes the packet. Panics where the kernel would refuse the program.
pub fn passes(program: &[Instruction], ip: &[u8], around: Around) -> bool {
    run(program, ip, around) != 0
}

fn run(program: &[Instruction], ip: &[u8], around: Around) -> u32 {
    let (mut a, mut x, mut at) = (0_u32, 0_u32, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let load = |from: u32, size: usize| -> Option<u32> {
            match from.wrapping_sub(0xffff_f000) {
                0 => Some(around.ether_type),
                4 => Some(around.packet_type),
                8 => Some(around.interface),
                48 => Some(around.is_tagged.into()),
                offset if offset < 0x1000 => panic!("ancillary {offset}"),
                _ => {
                    let bytes = ip.get(usize::try_from(from).unwrap()..)?.get(..size)?;
                    Some(bytes.iter().fold(0, |word, &byte| word << 8 | u32::from(byte)))
                }
            }
        };
        let mut jump = |condition: bool| at += usize::from(if condition { jt } else { jf });
        match code {
            0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50 => {
                let size = [4, 2, 1][usize::from(code >> 3 & 3)];
                let from = if code >= 0x40 { x.wrapping_add(k) } else { k };
                // What lies behind the end of the packet ends the program.
                let Some(word) = load(from, size) else { return 0 };
                a = word;
            }
            0x00 => a = k,
            0x01 => x = k,
            0xb1 => {
                let Some(byte) = load(k, 1) else { return 0 };
                x = (byte & 15) * 4;
            }
            0x54 => a &= k,
            0x05 => at += usize::try_from(k).unwrap(),
            0x15 => jump(a == k),
            0x25 => jump(a > k),
            0x35 => jump(a >= k),
            0x45 => jump(a & k != 0),
            0x06 => return k,
            _ => panic!("instruction {code:#x}"),
        }
    }
}

/// What the kernel checks when it takes a program: known instructions, jumps that stay inside, an end.
pub fn check(program: &[Instruction]) {
    assert!(!program.is_empty() && program.len() <= 4096, "{} instructions", program.len());
    for (at, instruction) in program.iter().enumerate() {
        let furthest = match instruction.code {
            0x15 | 0x25 | 0x35 | 0x45 => usize::from(instruction.jt.max(instruction.jf)),
            0x05 => usize::try_from(instruction.k).unwrap(),
            0x06 => continue,
            _ => 0,
        };
        assert!(at + 1 + furthest < program.len(), "instruction {at} of {} leads out", program.len());
    }
    assert_eq!(program.last().map(|last| last.code), Some(0x06), "the last instruction");
}

/// Gives a program to the kernel, on a socket such as the daemon's; whether there is memory for it.
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

/// The kernel as an interpreter: a pair of local sockets whose datagrams go through a program.
pub struct Kernel {
    sender: UnixDatagram,
    receiver: UnixDatagram,
}

impl Kernel {
    /// There are no link types on such a socket: it is told what it would have seen.
    pub fn with(program: &[Instruction], ether_type: u32) -> Kernel {
        let told: Vec<Instruction> = program
            .iter()
            .map(|&it| match it {
                Instruction { code: 0x28, k: 0xffff_f000, .. } => {
                    Instruction { code: 0, jt: 0, jf: 0, k: ether_type }
                }
                other => other,
            })
            .collect();
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        receiver.set_nonblocking(true).unwrap();
        SockRef::from(&receiver).attach_filter(&for_the_kernel(&told)).unwrap();
        Kernel { sender, receiver }
    }

    pub fn passes(&self, bytes: &[u8]) -> bool {
        assert!(!bytes.is_empty(), "an empty datagram says nothing");
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
    assert!(!value_of(&[op(0x20, 0, 0, 2)], 0), "behind the end");
    for (offset, value) in [(0, 0x0800), (4, 4), (8, 9), (48, 1)] {
        assert!(value_of(&[op(0x20, 0, 0, 0xffff_f000 + offset)], value));
    }
}

/// What the interpreter says of conditions, the kernel says too.
fn the_kernel_runs_programs_alike() {
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
