//! contrib/knockd.sh at the real daemon, with each program that it may send with.

use std::process::Command;

use libtest_mimic::{Completion, Trial};

use crate::client::around::ends;
use crate::client::otp::{HOUR, SEED, not_soon, private};
use crate::support::folder::Folder;
use crate::support::packet::{CLIENT, CLIENT6, SERVER, SERVER6};
use crate::support::process::Finished;
use crate::support::world::{World, run};

/// Without openssl there is nothing to try; the result says so.
pub fn tests() -> Vec<Trial> {
    let tests: [(&str, fn()); 2] =
        [("it_opens_doors", it_opens_doors), ("it_computes_what_knock_does", it_computes_what_knock_does)];
    let trial = |(name, test): (&str, fn())| {
        Trial::ignorable_test(format!("repository::knockd_sh::{name}"), move || {
            if let Some(missing) = ["openssl", "getent"].into_iter().find(|program| !has(program)) {
                return Ok(Completion::ignored_with(format!("{missing} is missing")));
            }
            test();
            Ok(Completion::Completed)
        })
    };
    tests.map(trial).into()
}

/// Whether this program is here.
fn has(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("command -v {program} >/dev/null")])
        .status()
        .is_ok_and(|it| it.success())
}

fn knockd_sh(world: &World, words: &[&str]) -> Finished {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/knockd.sh");
    run(&world.client, "sh", &[&[script][..], words].concat())
}

fn it_opens_doors() {
    not_soon();
    let world = World::new();
    let folder = Folder::new();
    let mut number = 0;
    for program in ["bash", "nc", "nmap"].into_iter().filter(|program| has(program)) {
        for (protection, protocols) in [("on", "tcp,udp,tcp"), ("off", "udp,tcp")] {
            number += 1;
            let text = format!("{SEED} {number},{HOUR},20000,{protection},{protocols}");
            let file = private(&folder, "seed", format!("{text}\n"));
            let door = format!("[d]\notp = {text}\ntcpflags = syn\notp_digest = sha256\n");
            let daemon = world.knockd(&door).start();
            for (host, knocker) in [(SERVER, CLIENT), (SERVER6, CLIENT6)] {
                if protection == "off" && host == SERVER6 {
                    continue; // spent
                }
                let finished = knockd_sh(&world, &["-f", &file, "-g", "sha256", "-s", program, host]);
                ends(&finished, 0, "");
                daemon.wait_for(&format!("{knocker}: d: OPEN SESAME"));
            }
            assert_eq!(daemon.stderr(), "", "{program}");
        }
    }
    assert!(number > 0, "nothing to send with");
}

fn it_computes_what_knock_does() {
    not_soon();
    let world = World::new();
    for (text, digest, host, source) in [
        (format!("{SEED},{HOUR},65500,on,tcp,UDP,tcp"), "sha1", SERVER, CLIENT),
        (format!("  -n  , {HOUR} , 0 , OFF , Udp "), "sha512", SERVER, CLIENT),
        (format!("{},{HOUR},20000,on{}", "x".repeat(31), ",tcp".repeat(32)), "sha256", SERVER6, CLIENT6),
        (
            format!("{},{HOUR},20000,on,tcp", "\\".repeat(31)),
            "sha1",
            SERVER6,
            "2001:db8:1111:2222:3333:4444:5555:6666",
        ),
    ] {
        let ours =
            world.knock(&["--otp", &text, "--otp-digest", digest, "--source-ip", source, "--print", host]);
        let theirs = knockd_sh(&world, &["-o", &text, "-g", digest, "-a", source, "-p", host]);
        ends(&theirs, 0, "");
        assert_eq!(theirs.stdout, ours.stdout, "{text}");
    }
    for words in [
        &["-o", "a,b,c,on,tcp", SERVER][..],
        &["-o", "a,1,2,on", SERVER],
        &[SERVER],
        &["-o", "a,1,2,on,icmp", SERVER],
    ] {
        assert_eq!(knockd_sh(&world, words).code(), Some(1), "{words:?}");
    }
}
