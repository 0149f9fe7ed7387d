//! Classic BPF: its instructions, and an assembler that works backwards.
//!
//! Classic BPF only jumps forward. Because a program is assembled from its end, each target is known when
//! a jump to it is emitted. A target out of reach of a jump gets a trampoline in between.

use litemap::LiteMap;

/// One instruction, fields in host byte order (`struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The operation.
    pub code: u16,
    /// How many instructions to skip if the condition holds.
    pub jt: u8,
    /// How many instructions to skip if it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

// Instruction codes (linux/bpf_common.h).
/// A = the word at k, in host byte order.
pub const LD_WORD: u16 = 0x20;
/// A = the half word at k.
pub const LD_HALF: u16 = 0x28;
/// A = the byte at k.
pub const LD_BYTE: u16 = 0x30;
/// A = the half word at X + k.
pub const LD_HALF_X: u16 = 0x48;
/// A = the byte at X + k.
pub const LD_BYTE_X: u16 = 0x50;
/// A = the length of the packet, which may be more than the program can load.
pub const LD_LENGTH: u16 = 0x80;
/// X = k.
pub const LDX_NUMBER: u16 = 0x01;
/// X = the length of the IPv4 header at k.
pub const LDX_HEADER_LENGTH: u16 = 0xb1;
/// A = A - X.
pub const SUBTRACT_X: u16 = 0x1c;
/// A = A - k; below 0 it wraps around.
pub const SUBTRACT: u16 = 0x14;
/// X = A.
pub const COPY_TO_X: u16 = 0x07;
/// A = A + k.
pub const ADD: u16 = 0x04;
/// A = A & k.
pub const AND: u16 = 0x54;
/// Skip k instructions.
const JUMP: u16 = 0x05;
/// If A == k.
pub const JUMP_EQUAL: u16 = 0x15;
/// If A > k.
pub const JUMP_GREATER: u16 = 0x25;
/// If A >= k.
pub const JUMP_NOT_BELOW: u16 = 0x35;
/// If A >= X.
pub const JUMP_NOT_BELOW_X: u16 = 0x3d;
/// If A & k is not 0.
pub const JUMP_ANY_BIT: u16 = 0x45;
/// End: deliver k bytes of the packet, or reject it if k is 0.
const RETURN: u16 = 0x06;

// Offsets of ancillary data, which is not part of the packet (linux/filter.h, `SKF_AD_*`).
const ANCILLARY: u32 = 0xffff_f000;
/// The `EtherType`.
pub const ETHER_TYPE: u32 = ANCILLARY;
/// Whom the link-layer frame is addressed to: [`PACKET_TO_US`] and so on.
pub const PACKET_TYPE: u32 = ANCILLARY + 4;
/// The index of the interface.
pub const INTERFACE: u32 = ANCILLARY + 8;
/// The VLAN tag, if the frame has one: three bits of priority, one of drop eligibility, twelve of VLAN ID.
pub const VLAN_TAG: u32 = ANCILLARY + 44;
/// Whether the frame had a VLAN tag.
pub const VLAN_TAG_PRESENT: u32 = ANCILLARY + 48;

// Values of `PACKET_TYPE` (linux/if_packet.h); broadcast and multicast frames are 1 and 2.
/// Received, for this station.
pub const PACKET_TO_US: u32 = 0;
/// Received, for another station.
pub const PACKET_FOR_OTHERS: u32 = 3;
/// Sent.
pub const PACKET_OUTGOING: u32 = 4;

/// The index of the loopback interface (the kernel's `LOOPBACK_IFINDEX`, in every network namespace).
pub const LOOPBACK_INTERFACE: u32 = 1;

/// An emitted instruction, as its distance from the end of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label(usize);

/// A program under construction.
#[derive(Debug, Default)]
pub struct Assembler {
    /// Last instruction first.
    reversed: Vec<Instruction>,
    /// For each target that was out of reach, the latest trampoline to it.
    trampolines: LiteMap<Label, Label>,
}

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }

    /// How many instructions the next one would have to skip to get to `target`.
    fn distance(&self, target: Label) -> usize {
        self.reversed.len() - 1 - target.0
    }

    /// Emits an end of the program that delivers this many bytes of the packet; 0 rejects it.
    pub fn finish(&mut self, bytes: u32) -> Label {
        self.push(RETURN, 0, 0, bytes)
    }

    /// Emits an instruction that continues at `next`.
    pub fn then(&mut self, code: u16, k: u32, next: Label) -> Label {
        if self.distance(next) > 0 {
            self.trampoline(next);
        }
        self.push(code, 0, 0, k)
    }

    /// Emits a jump to `yes` if the condition holds, to `no` if not.
    pub fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        let (yes, no) = (self.reach(yes), self.reach(no));
        let (jt, jf) = (self.distance(yes), self.distance(no));
        let byte = |distance| u8::try_from(distance).unwrap_or(u8::MAX);
        self.push(code, byte(jt), byte(jf), k)
    }

    /// The target itself, or a trampoline to it that a jump can reach.
    fn reach(&mut self, target: Label) -> Label {
        // One less than a jump can span: a trampoline for the other target may come in between.
        const REACH: usize = u8::MAX as usize - 1;
        let near = self.trampolines.get(&target).copied().unwrap_or(target);
        if self.distance(near) <= REACH { near } else { self.trampoline(target) }
    }

    fn trampoline(&mut self, target: Label) -> Label {
        // A copy of a return is faster than a jump to it.
        let end = self.reversed.get(target.0).copied().filter(|instruction| instruction.code == RETURN);
        let trampoline = if let Some(end) = end {
            self.push(end.code, 0, 0, end.k)
        } else {
            let distance = u32::try_from(self.distance(target)).unwrap_or(0);
            self.push(JUMP, 0, 0, distance)
        };
        self.trampolines.insert(target, trampoline);
        trampoline
    }

    /// The finished program, which starts at `entry`.
    #[must_use]
    pub fn program(mut self, entry: Label) -> Vec<Instruction> {
        if self.distance(entry) > 0 {
            self.trampoline(entry);
        }
        self.reversed.reverse();
        self.reversed
    }
}
