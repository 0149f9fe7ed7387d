//! An interpreter of classic BPF, as the kernel runs it on a cooked packet socket. Written from the kernel's
//! `Documentation/networking/filter.rst`, not from the assembler under test; the fuzz targets use it too.

use knocking::filter::bpf::Instruction;

/// What the kernel knows of a packet besides its bytes, which begin with the IP header.
#[derive(Clone, Copy, Debug)]
pub struct Around {
    pub ether_type: u32,
    /// 0: to this host, 4: outgoing.
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

/// Whether the program passes the packet. Panics if the kernel would refuse the program.
pub fn passes(program: &[Instruction], ip: &[u8], around: Around) -> bool {
    run(program, ip, around) != 0
}

/// How many bytes of the packet the program passes.
pub fn run(program: &[Instruction], ip: &[u8], around: Around) -> u32 {
    let (mut a, mut x, mut at) = (0_u32, 0_u32, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let load = |from: u32, size: usize| -> Option<u32> {
            match from.wrapping_sub(0xffff_f000) {
                0 => Some(around.ether_type),
                4 => Some(around.packet_type),
                8 => Some(around.interface),
                44 => Some(if around.is_tagged { 0x7005 } else { 0 }),
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
                // A load beyond the end of the packet rejects it.
                let Some(word) = load(from, size) else { return 0 };
                a = word;
            }
            0x00 => a = k,
            0x04 => a = a.wrapping_add(k),
            0x07 => x = a,
            0x80 => a = u32::try_from(ip.len()).unwrap(),
            0x3d => jump(a >= x),
            0x01 => x = k,
            0xb1 => {
                let Some(byte) = load(k, 1) else { return 0 };
                x = (byte & 15) * 4;
            }
            0x1c => a = a.wrapping_sub(x),
            0x14 => a = a.wrapping_sub(k),
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

/// The kernel's checks when a program is attached: known instructions, jumps within the program, a return.
pub fn check(program: &[Instruction]) {
    assert!(!program.is_empty() && program.len() <= 4096, "{} instructions", program.len());
    for (at, instruction) in program.iter().enumerate() {
        let furthest = match instruction.code {
            0x15 | 0x25 | 0x35 | 0x3d | 0x45 => usize::from(instruction.jt.max(instruction.jf)),
            0x05 => usize::try_from(instruction.k).unwrap(),
            0x06 => continue,
            _ => 0,
        };
        assert!(at + 1 + furthest < program.len(), "instruction {at} of {} leads out", program.len());
    }
    assert_eq!(program.last().map(|last| last.code), Some(0x06), "the last instruction");
}
