//! Compiles the list of system calls into a filter program for the kernel (seccomp(2), classic BPF).
//!
//! It uses the assembler of the packet filter: the crate `seccompiler` supports three of the six
//! architectures that we are built for.

use crate::daemon::sandbox::calls::{Call, Test};
use crate::daemon::sandbox::install;
use crate::daemon::sandbox::numbers::ARCHITECTURE;
use crate::filter::bpf::{AND, Assembler, Instruction, JUMP_ANY_BIT, JUMP_EQUAL, LD_WORD, Label};
use crate::filter::trouble::Code;
use crate::protocol::confinement::Outcome;

// Offsets in `struct seccomp_data`, all of whose fields are in the machine's byte order.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;
/// Offset of the low word of an argument within its eight bytes.
const LOW_WORD: u32 = if cfg!(target_endian = "big") { 4 } else { 0 };

/// `SECCOMP_RET_ALLOW`.
const ALLOW: u32 = 0x7fff_0000;
/// `SECCOMP_RET_ERRNO` with EPERM.
const REFUSE: u32 = 0x0005_0001;
/// `ENOSYS`: for an architecture whose system call numbers we do not know.
const NOT_HERE: Code = Code(38);

/// Refuses all other system calls from now on.
pub(super) fn install(calls: &[Call]) -> Outcome {
    let Some(architecture) = ARCHITECTURE else { return Outcome::Failed(NOT_HERE) };
    Outcome::of(install::install(&program(calls, architecture)))
}

/// The filter program: allows `calls` on this architecture.
fn program(calls: &[Call], architecture: u32) -> Vec<Instruction> {
    let mut assembler = Assembler::default();
    let refuse = assembler.finish(REFUSE);
    let allow = assembler.finish(ALLOW);
    let mut next = refuse;
    for call in calls.iter().rev() {
        // An alternative that does not hold leads to the next, the last one to a refusal.
        let mut entry = if call.only.is_empty() { allow } else { refuse };
        for tests in call.only.iter().rev() {
            let other = entry;
            entry = tests.iter().rev().fold(allow, |yes, test| when(&mut assembler, test, yes, other));
        }
        next = assembler.branch(JUMP_EQUAL, call.number, entry, next);
    }
    let number = assembler.then(LD_WORD, NUMBER, next);
    let known = assembler.branch(JUMP_EQUAL, architecture, number, refuse);
    let entry = assembler.then(LD_WORD, ARCH, known);
    assembler.program(entry)
}

/// Jumps to `yes` if the test holds, to `no` if not. Tests only the low word of an argument, as the kernel
/// uses only that of descriptors, commands and flags.
fn when(assembler: &mut Assembler, test: &Test, yes: Label, no: Label) -> Label {
    let load = |argument: u32| ARGUMENTS + 8 * argument + LOW_WORD;
    match test {
        Test::In(argument, values) => {
            let chain =
                values.iter().rev().fold(no, |next, &value| assembler.branch(JUMP_EQUAL, value, yes, next));
            assembler.then(LD_WORD, load(*argument), chain)
        }
        Test::NotIn(argument, values) => {
            let chain =
                values.iter().rev().fold(yes, |next, &value| assembler.branch(JUMP_EQUAL, value, no, next));
            assembler.then(LD_WORD, load(*argument), chain)
        }
        Test::NoBits(argument, bits) => {
            let branch = assembler.branch(JUMP_ANY_BIT, *bits, no, yes);
            assembler.then(LD_WORD, load(*argument), branch)
        }
        Test::Masked(argument, bits, value) => {
            let branch = assembler.branch(JUMP_EQUAL, *value, yes, no);
            let masked = assembler.then(AND, *bits, branch);
            assembler.then(LD_WORD, load(*argument), masked)
        }
    }
}
