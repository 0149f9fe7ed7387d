//! `--simulate`: plays a capture file, or lines that describe packets, against the configuration. Listens on
//! nothing and runs nothing.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::ExitCode;

use crate::config::Config;
use crate::daemon::cli::Arguments;
use crate::daemon::core_dump;
use crate::daemon::load::load;
use crate::daemon::log::output;
use crate::reason::reason;
use crate::simulation::capture::{CaptureReader, FileFormat};
use crate::simulation::simulator::{Simulator, SimulatorOptions, StepError};
use crate::simulation::steps::{Step, TimedStep};

/// The exit code if no door opened.
const NOTHING_OPENED: u8 = 3;

/// The most bytes that are read of a file with lines.
const MAX_TEXT: u64 = 64 << 20;

/// Plays the file: returns 0 if a door opened, 3 if none did, 1 if something cannot be read.
#[must_use]
pub fn main(arguments: &Arguments, file: &Path) -> ExitCode {
    core_dump::forbid();
    output::start(arguments.verbose, false);
    let config = match load(arguments, &mut output::pass_on) {
        Ok(loaded) => loaded.config,
        Err(error) => {
            output::complain(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let options = SimulatorOptions {
        explains: arguments.debug,
        here: arguments.addresses.clone(),
        only_v4: arguments.only_v4,
    };
    let input: Box<dyn Read> = if file.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        match File::open(arguments.folder.join(file)) {
            Ok(file) => Box::new(file),
            Err(error) => {
                output::complain(&format!("{}: {}", file.display(), reason(&error)));
                return ExitCode::FAILURE;
            }
        }
    };
    match play(config, options, BufReader::new(input)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NOTHING_OPENED),
        Err(message) => {
            output::complain(&format!("{}: {message}", file.display()));
            ExitCode::FAILURE
        }
    }
}

/// Plays it; returns whether a door opened.
fn play(
    config: Config,
    options: SimulatorOptions,
    mut input: BufReader<Box<dyn Read>>,
) -> Result<bool, String> {
    let mut simulator = Simulator::new(config, options);
    let start = input.fill_buf().map_err(|error| reason(&error))?;
    let result = match FileFormat::detect(start) {
        FileFormat::Pcap => play_capture(&mut simulator, input),
        FileFormat::PcapNg => Err(
            "is a pcapng file, which is not read here; tcpdump -r FILE -w FILE.pcap makes a pcap file of it"
                .to_owned(),
        ),
        FileFormat::Lines => play_lines(&mut simulator, input),
    };
    if result.is_ok() {
        simulator.finish();
    }
    show(&mut simulator);
    result.map(|()| simulator.has_opened())
}

fn play_capture(simulator: &mut Simulator, input: impl Read) -> Result<(), String> {
    let mut capture = CaptureReader::open(input).map_err(|error| error.to_string())?;
    let mut number = 0_u64;
    while let Some(packet) =
        capture.next_packet().map_err(|error| format!("packet {}: {error}", number + 1))?
    {
        number += 1;
        simulator.play_packet(packet.unix, packet.ip.as_deref());
        show(simulator);
    }
    Ok(())
}

fn play_lines(simulator: &mut Simulator, input: impl Read) -> Result<(), String> {
    let mut text = Vec::new();
    let read = input.take(MAX_TEXT + 1).read_to_end(&mut text).map_err(|error| reason(&error))?;
    if u64::try_from(read).unwrap_or(u64::MAX) > MAX_TEXT {
        return Err("is too long for lines, and no pcap file".to_owned());
    }
    let text = String::from_utf8_lossy(&text);
    // A scenario begins with doors and their files, up to the last line of this kind.
    let separator = text.lines().collect::<Vec<_>>().iter().rposition(|line| line.trim_end() == "---");
    let mut steps = Vec::new();
    for (number, line) in (1..).zip(text.lines()).skip(separator.map_or(0, |at| at + 1)) {
        let Some(text) = Step::without_expectation(line) else { continue };
        let step = Step::parse(text).ok_or_else(|| {
            format!(
                "line {number}: '{text}' is not understood: write SECONDS SOURCE > DESTINATION tcp PORT syn"
            )
        })?;
        steps.push((number, step));
    }
    if steps.iter().any(|(_, step)| matches!(step, Step::At(_, TimedStep::Ended(..)))) {
        simulator.expect_command_ends();
    }
    for (number, step) in steps {
        simulator.play_step(step).map_err(|error| {
            let why = match error {
                StepError::TimeGoesBack => "its time is before that of the line above",
                StepError::NoSuchCommand => "no such command runs then",
                StepError::NoSuchDoor => "there is no door of this name",
                StepError::AssertionFailed => "that is not so",
            };
            format!("line {number}: {why}")
        })?;
        show(simulator);
    }
    Ok(())
}

fn show(simulator: &mut Simulator) {
    for line in simulator.take_lines() {
        output::print(&format!("{line}\n"));
    }
}
