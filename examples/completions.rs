//! Writes the completions of the shells from the command lines of both programs:
//!
//! ```sh
//! cargo run --example completions [FOLDER]     # default: contrib/completions
//! ```
//!
//! They are committed, so that packages need no Rust. Options come from clap, what they mean from the text of
//! `-h`; what clap does not know is added here: profiles, interfaces, and the forms of ports.

use std::{env, fs, io};

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, ValueHint};
use clap_complete::generate;
use clap_complete::shells::{Bash, Fish, Zsh};

use knocking::command_line::command;
use knocking::{client, daemon};

/// What only a shell can list, in its own words.
const BASH: &str = r#"
# Profiles before the first word, interfaces, and the forms of a port.
_knock_words() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} word count=0
    case $prev in
    --interface)
        COMPREPLY=($(compgen -W "$(command ls /sys/class/net 2>/dev/null)" -- "$cur"))
        return
        ;;
    --flags)
        COMPREPLY=($(compgen -W "fin syn rst psh ack urg ece cwr none" -- "$cur"))
        return
        ;;
    esac
    _knock "$@"
    [[ $cur != -* && $prev != -* ]] || return 0
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        [[ $word == -* ]] || count=$((count + 1))
    done
    if [ "$count" = 0 ]; then
        COMPREPLY=($(compgen -W "$(knock --list 2>/dev/null | cut -d' ' -f1)" -- "$cur")
            $(compgen -A hostname -- "$cur"))
    else
        # A colon separates words in bash.
        COMPREPLY=()
        case $cur in *[0-9]) COMPREPLY=("$cur:tcp" "$cur:udp") ;; esac
    fi
}
complete -F _knock_words -o nosort -o bashdefault knock 2>/dev/null || complete -F _knock_words knock
"#;
const BASH_DAEMON: &str = r#"
_knockd_words() {
    local cur=${COMP_WORDS[COMP_CWORD]}
    case ${COMP_WORDS[COMP_CWORD-1]} in
    -i | --interface) COMPREPLY=($(compgen -W "auto any $(command ls /sys/class/net 2>/dev/null)" -- "$cur")) ;;
    *) _knockd "$@" ;;
    esac
}
complete -F _knockd_words -o nosort -o bashdefault -o default knockd 2>/dev/null || complete -F _knockd_words knockd
"#;
const ZSH: &str = r#"
# What stands where clap would have a word.
_knock_words() {
    if (( CURRENT == 1 )); then
        local -a profiles
        profiles=(${(f)"$(knock --list 2>/dev/null | cut -d' ' -f1)"})
        (( $#profiles )) && compadd -X profiles -- $profiles
        _hosts
    elif [[ $PREFIX == <-> ]]; then
        compadd -- "$PREFIX:tcp" "$PREFIX:udp"
    else
        _message 'port[:tcp|udp]'
    fi
}
"#;
const FISH: &str = r#"
complete -c knock -f
complete -c knock -f -n '__fish_is_nth_token 1' -a '(knock --list 2>/dev/null | string split -f 1 " ")' -d profile
complete -c knock -f -n '__fish_is_nth_token 1' -a '(__fish_print_hostnames)'
complete -c knock -l interface -x -a '(command ls /sys/class/net 2>/dev/null)'
complete -c knock -l flags -x -a 'fin syn rst psh ack urg ece cwr none'
"#;
const FISH_DAEMON: &str = r"
complete -c knockd -f
complete -c knockd -s i -l interface -x -a 'auto any (command ls /sys/class/net 2>/dev/null)'
";

/// The name and the text of each file.
#[must_use]
pub fn completions() -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut add = |name: &str, text: String| files.push((name.to_owned(), text));
    // knockd ignores words.
    let knockd = command("knockd", daemon::cli::OPTIONS)
        .mut_args(|argument| if argument.is_positional() { argument.hide(true) } else { argument });
    for (name, command, bash, fish, own_zsh) in [
        ("knock", described(command("knock", client::cli::OPTIONS), client::usage::USAGE), BASH, FISH, ZSH),
        ("knockd", described(knockd, daemon::cli::USAGE), BASH_DAEMON, FISH_DAEMON, ""),
    ] {
        add(&format!("{name}.bash"), generated(Bash, &command, name) + bash);
        add(&format!("{name}.fish"), generated(Fish, &command, name) + fish);
        let zsh = with_functions(&generated(Zsh, &command, name));
        let (head, body) = zsh.split_once("\n\n").unwrap_or_default();
        add(&format!("_{name}"), format!("{head}\n{own_zsh}\n{body}"));
    }
    files
}

fn generated(shell: impl clap_complete::Generator, command: &Command, name: &str) -> String {
    let mut text = Vec::new();
    generate(shell, &mut command.clone(), name, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

/// zsh completes a value by the function that is named with it.
fn with_functions(zsh: &str) -> String {
    let line = |line: &str| match line.strip_suffix("]: :_default' \\").filter(|it| it.contains("interface"))
    {
        Some(line) => format!("{line}]:interface:_net_interfaces' \\\n"),
        None => format!("{}\n", line.replace("'*::words:_default'", "'*::words:_knock_words'")),
    };
    zsh.lines().map(line).collect()
}

/// The command with the help of its usage text, and with the values that its options take.
fn described(command: Command, usage: &str) -> Command {
    let command = command.mut_args(|option| {
        let Some(help) = option.get_long().and_then(|long| meaning(usage, long)) else { return option };
        let option = option.help(help);
        match option.get_id().as_str() {
            "otp-digest" => option.value_parser(PossibleValuesParser::new(["sha1", "sha256", "sha512"])),
            "df" => option.value_parser(PossibleValuesParser::new(["yes", "no"])),
            "config" | "simulate" | "pidfile" | "logfile" | "otp-file" | "one-time-sequences"
            | "fwknoprc" | "pcap" => option.value_hint(ValueHint::FilePath),
            "host" => option.value_hint(ValueHint::Hostname),
            "flags" | "new-door" | "port" | "web" => option.value_hint(ValueHint::Other),
            _ => option,
        }
    });
    command.mut_args(|argument: Arg| match argument.get_id().as_str() {
        "rest" => argument.value_hint(ValueHint::CommandString),
        _ => argument,
    })
}

/// What the usage text says of an option: all behind two blanks, and the lines below it, up to the first
/// parenthesis or colon, which begin details.
fn meaning(usage: &str, long: &str) -> Option<String> {
    let names = |line: &str| {
        let line = line.trim_start();
        line.starts_with('-') && line.split([' ', '=', '[']).any(|word| word.strip_prefix("--") == Some(long))
    };
    let mut lines = usage.lines().skip_while(|line| !names(line));
    let first = lines.next()?.trim_start();
    // Where the name of the value is long, one blank must do.
    let text = first.split_once("  ").or_else(|| first.split_once("> "));
    let mut words = text.map_or(String::new(), |(_, text)| text.trim().to_owned());
    for line in lines.take_while(|line| line.starts_with("          ")) {
        words = format!("{words} {}", line.trim());
    }
    let end = words.find([':', '(']).unwrap_or(words.len());
    let words = words.get(..end)?.trim();
    (!words.is_empty()).then(|| words.to_owned())
}

#[allow(dead_code, reason = "the test that compares the files includes this one")]
fn main() -> io::Result<()> {
    let folder = env::args().nth(1).unwrap_or_else(|| "contrib/completions".to_owned());
    fs::create_dir_all(&folder)?;
    completions().into_iter().try_for_each(|(name, text)| fs::write(format!("{folder}/{name}"), text))
}
