//! Plays bytes as `knockd --simulate` does: as a capture file, or as lines. What is counted must fit, and a door
//! that opened has run its command.
#![no_main]

use knocking::config::{Config, Reading};
use knocking::simulation::capture::{CaptureReader, FileFormat};
use knocking::simulation::simulator::{Simulator, SimulatorOptions};
use knocking::simulation::steps::{Step, TimedStep};
use libfuzzer_sys::fuzz_target;

const DOORS: &str = "[fixed]\nsequence = 7000,8000:udp,9000\ntcpflags = syn\nstart_command = start\n\
    stop_command = stop\ncmd_timeout = 3\nstrict = yes\n\
    [ping]\nsequence = 4:icmp\nstart_command = start\n\
    [once]\none_time_sequences = /lines\nstart_command = start\n\
    [otp]\notp = hVvT0UVdVlXn1rNeSHrjQ9H8,60,20000,on,tcp\nstart_command = start\n\
    [single]\nspa_key = TKsnuYqQVqk3pHcFwGxbDJpR\nspa_hmac_key = AJdqDnjFYwVvG2yYwvkoePtM\n\
    spa_open = any\nstart_command = start\n";
/// More lines or packets than this find nothing new.
const MOST: usize = 400;

fn config() -> Config {
    let mut file = |_: &std::path::Path| Ok(b"1,2\n3,4\n".to_vec());
    let reading = Reading { file: &mut file, note: &mut |_| {}, interface_is_given: false };
    Config::parse(DOORS.as_bytes(), reading).expect("a valid configuration")
}

/// Plays the packets up to the first that is damaged.
fn play_capture(simulator: &mut Simulator, data: &[u8]) -> usize {
    let Ok(mut capture) = CaptureReader::open(data) else { return 0 };
    let mut packets = 0;
    while let Ok(Some(packet)) = capture.next_packet() {
        assert!(packet.ip.as_ref().is_none_or(|ip| ip.len() <= data.len()));
        simulator.play_packet(packet.unix, packet.ip.as_deref());
        packets += 1;
        if packets == MOST {
            break;
        }
    }
    packets
}

/// Plays the lines up to the first that is not understood or cannot be.
fn play_lines(simulator: &mut Simulator, data: &[u8]) -> usize {
    let text = String::from_utf8_lossy(data);
    let steps = text.lines().filter_map(Step::without_expectation).take(MOST);
    let steps: Vec<Step> = steps.map_while(Step::parse).collect();
    if steps.iter().any(|step| matches!(step, Step::At(_, TimedStep::Ended(..)))) {
        simulator.expect_command_ends();
    }
    let mut packets = 0;
    for step in steps {
        let is_packet = matches!(step, Step::At(_, TimedStep::Packet(_)));
        if simulator.play_step(step).is_err() {
            break;
        }
        packets += usize::from(is_packet);
    }
    packets
}

fuzz_target!(|data: &[u8]| {
    let mut simulator =
        Simulator::new(config(), SimulatorOptions { explains: true, ..SimulatorOptions::default() });
    let packets = match FileFormat::detect(data) {
        FileFormat::Pcap => play_capture(&mut simulator, data),
        FileFormat::Lines => play_lines(&mut simulator, data),
        FileFormat::PcapNg => return,
    };
    simulator.finish();
    let lines = simulator.take_lines();
    let plural = if packets == 1 { "" } else { "s" };
    let sum = format!("{packets} packet{plural}, ");
    assert!(lines.iter().any(|line| line.starts_with(&sum)), "{sum}: {lines:#?}");
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(simulator.has_opened(), count(": OPEN SESAME") > 0, "{lines:#?}");
    assert!(count("would run command: start") >= count(": OPEN SESAME"), "{lines:#?}");
});
