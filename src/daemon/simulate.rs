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
use crate::simulation::capture::{Capture, Format};
use crate::simulation::play::{Play, Refusal, Wishes};
use crate::simulation::steps::{Deed, Step};

/// The exit code if no door opened.
const NOTHING_OPENED: u8 = 3;

/// The most bytes that are read of a file with lines.
const LONGEST: u64 = 64 << 20;

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
    let wishes =
        Wishes { explains: arguments.debug, here: arguments.addresses.clone(), only_v4: arguments.only_v4 };
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
    match play(config, wishes, BufReader::new(input)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NOTHING_OPENED),
        Err(sentence) => {
            output::complain(&format!("{}: {sentence}", file.display()));
            ExitCode::FAILURE
        }
    }
}

/// Plays it; returns whether a door opened.
fn play(config: Config, wishes: Wishes, mut input: BufReader<Box<dyn Read>>) -> Result<bool, String> {
    let mut play = Play::new(config, wishes);
    let start = input.fill_buf().map_err(|error| reason(&error))?;
    let result = match Format::of(start) {
        Format::Pcap => play_capture(&mut play, input),
        Format::PcapNg => Err(
            "is a pcapng file, which is not read here; tcpdump -r FILE -w FILE.pcap makes a pcap file of it"
                .to_owned(),
        ),
        Format::Lines => play_lines(&mut play, input),
    };
    if result.is_ok() {
        play.end();
    }
    show(&mut play);
    result.map(|()| play.has_opened())
}

fn play_capture(play: &mut Play, input: impl Read) -> Result<(), String> {
    let mut capture = Capture::open(input).map_err(|error| error.to_string())?;
    let mut number = 0_u64;
    while let Some(packet) =
        capture.next_packet().map_err(|error| format!("packet {}: {error}", number + 1))?
    {
        number += 1;
        play.packet(packet.unix, packet.ip.as_deref());
        show(play);
    }
    Ok(())
}

fn play_lines(play: &mut Play, input: impl Read) -> Result<(), String> {
    let mut text = Vec::new();
    let read = input.take(LONGEST + 1).read_to_end(&mut text).map_err(|error| reason(&error))?;
    if u64::try_from(read).unwrap_or(u64::MAX) > LONGEST {
        return Err("is too long for lines, and no pcap file".to_owned());
    }
    let text = String::from_utf8_lossy(&text);
    // A scenario begins with doors and their files, up to the last line of this kind.
    let above = text.lines().collect::<Vec<_>>().iter().rposition(|line| line.trim_end() == "---");
    let mut steps = Vec::new();
    for (number, line) in (1..).zip(text.lines()).skip(above.map_or(0, |at| at + 1)) {
        let Some(text) = Step::text_of(line) else { continue };
        let step = Step::read(text).ok_or_else(|| {
            format!(
                "line {number}: '{text}' is not understood: write SECONDS SOURCE > DESTINATION tcp PORT syn"
            )
        })?;
        steps.push((number, step));
    }
    if steps.iter().any(|(_, step)| matches!(step, Step::At(_, Deed::Ended(..)))) {
        play.wait_for_endings();
    }
    for (number, step) in steps {
        play.step(step).map_err(|refusal| {
            let why = match refusal {
                Refusal::GoesBack => "its time is before that of the line above",
                Refusal::NoCommand => "no such command runs then",
                Refusal::NoDoor => "there is no door of this name",
                Refusal::NotSo => "that is not so",
            };
            format!("line {number}: {why}")
        })?;
        show(play);
    }
    Ok(())
}

fn show(play: &mut Play) {
    for line in play.take_lines() {
        output::print(&format!("{line}\n"));
    }
}
